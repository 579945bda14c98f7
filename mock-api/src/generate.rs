//! The seeded generator: the same seed and size give the same organisation, byte for byte.

use fastrand::Rng;
use serde::Serialize;

use crate::attributes::Attributes;
use crate::entity::Entity;
use crate::names::{CAMPUSES, CITIES, FIRST, GROUPS, LAST, MEMBERSHIPS, STREETS};
use crate::organisation::Organisation;
use crate::record::{Facts, Home, Record};
use crate::seconds::Seconds;
use crate::timeline::Timeline;

/// How many records of each kind an organisation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Size {
    /// Sites.
    pub campuses: usize,
    /// People.
    pub people: usize,
    /// Households; their memberships follow from the people.
    pub households: usize,
    /// Email addresses.
    pub emails: usize,
    /// Phone numbers.
    pub phone_numbers: usize,
    /// Postal addresses.
    pub addresses: usize,
    /// Records of past merges.
    pub person_mergers: usize,
    /// Kinds of group.
    pub group_types: usize,
    /// Groups.
    pub groups: usize,
    /// Places in groups.
    pub memberships: usize,
    /// Meetings of groups.
    pub events: usize,
}

impl Size {
    /// The proportions of an ordinary church with this many people.
    ///
    /// ```
    /// let size = mock_api::Size::of(1_000);
    /// assert_eq!((size.households, size.emails, size.addresses), (600, 1_300, 1_200));
    /// ```
    pub fn of(people: usize) -> Self {
        let some = usize::from(people > 0);
        Self {
            campuses: some * (people / 50).clamp(1, 20),
            people,
            households: people * 6 / 10,
            emails: people * 13 / 10,
            phone_numbers: people * 8 / 10,
            addresses: people * 12 / 10,
            person_mergers: people / 200,
            group_types: some * 6,
            groups: some * (people / 25).max(3),
            memberships: people * 3 / 10,
            events: people * 2 / 10,
        }
    }
}

pub(crate) fn generate(seed: u64, size: Size, home: Home) -> Organisation {
    let mut generator = Generator {
        rng: Rng::with_seed(seed),
        organisation: Organisation::new(home),
        attributes: Attributes::default(),
        people: Vec::with_capacity(size.people),
    };
    generator.campuses(size.campuses);
    generator.people(size.people, size.campuses);
    generator.households(size.households);
    generator.emails(size.emails);
    generator.phone_numbers(size.phone_numbers);
    generator.addresses(size.addresses);
    generator.person_mergers(size.person_mergers);
    generator.group_types(size.group_types);
    generator.groups(size.groups, size.group_types, size.memberships);
    generator.memberships(size.groups, size.memberships);
    generator.events(size.groups, size.events);
    generator.organisation
}

/// What later records repeat of a person.
struct Someone {
    id: u64,
    name: String,
    last_name: &'static str,
}

struct Generator {
    rng: Rng,
    organisation: Organisation,
    attributes: Attributes,
    people: Vec<Someone>,
}

/// The parts of a record that are not attributes.
struct Frame {
    id: u64,
    times: (Seconds, Seconds),
    slots: [u64; 2],
}

impl Generator {
    fn put(&mut self, entity: Entity, frame: Frame, members: Vec<u64>) {
        let facts = Facts {
            id: frame.id,
            created_at: frame.times.0,
            updated_at: frame.times.1,
            slots: frame.slots,
            members: members.into_boxed_slice(),
            attributes: self.attributes.finish(),
        };
        let record = Record::new(entity.spec(), &self.organisation.home, facts);
        self.organisation.store_mut(entity).put(record);
    }

    fn begin(&mut self, entity: Entity, rows: usize) -> Timeline {
        self.organisation.store_mut(entity).reserve(rows);
        Timeline::new(rows, &mut self.rng)
    }

    fn frame(&mut self, timeline: &mut Timeline, id: u64, slots: [u64; 2]) -> Frame {
        Frame {
            id,
            times: timeline.next(&mut self.rng),
            slots,
        }
    }

    /// Ids have gaps, as in any system where records are deleted.
    fn id_after(&mut self, entity: Entity) -> u64 {
        let next = self.organisation.store(entity).next_id();
        next + u64::from(self.rng.u8(..8) == 0)
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.rng.usize(..values.len())]
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(..100) < percent
    }

    fn maybe<T>(&mut self, percent: u8, value: T) -> Option<T> {
        self.chance(percent).then_some(value)
    }

    fn campuses(&mut self, rows: usize) {
        let mut timeline = self.begin(Entity::Campus, rows);
        for index in 0..rows {
            let id = index as u64 + 1;
            let frame = self.frame(&mut timeline, id, [0; 2]);
            let (city, state) = self.pick(CITIES);
            let round = index / CAMPUSES.len();
            let name = match round {
                0 => CAMPUSES[index].to_owned(),
                _ => format!("{} {}", CAMPUSES[index % CAMPUSES.len()], round + 1),
            };
            let website = self.maybe(50, format!("https://campus{id}.example.org"));
            let (latitude, longitude) = (self.degrees(), self.degrees());
            self.attributes
                .start()
                .nulls(["avatar_url"])
                .set("church_center_enabled", id % 2 == 1)
                .set("city", city)
                .nulls(["contact_email_address"])
                .set("country", "US")
                .time("created_at", frame.times.0)
                .nulls(["date_format", "description"])
                .set("latitude", latitude)
                .set("longitude", longitude)
                .set("name", name)
                .nulls(["phone_number"])
                .set("state", state)
                .nulls(["street"])
                .set("time_zone", "America/New_York")
                .time("updated_at", frame.times.1)
                .set("website", website)
                .nulls(["zip"]);
            self.put(Entity::Campus, frame, Vec::new());
        }
    }

    fn degrees(&mut self) -> f64 {
        f64::from(self.rng.i32(-900_000..900_000)) / 10_000.0
    }

    fn people(&mut self, rows: usize, campuses: usize) {
        let mut timeline = self.begin(Entity::Person, rows);
        for _ in 0..rows {
            let id = self.id_after(Entity::Person);
            let campus = match campuses {
                0 => 0,
                _ if self.chance(25) => 0,
                _ => self.rng.u64(1..=campuses as u64),
            };
            let frame = self.frame(&mut timeline, id, [campus, 0]);
            self.person(&frame);
            self.put(Entity::Person, frame, Vec::new());
        }
    }

    fn person(&mut self, frame: &Frame) {
        let (first, last) = (self.pick(FIRST), self.pick(LAST));
        let child = self.chance(25);
        let inactive = self.chance(8);
        let birthdate = self.birthdate(child);
        let birthdate = self.maybe(80, birthdate);
        let anniversary = self.birthdate(true);
        let anniversary = self.maybe(if child { 0 } else { 30 }, anniversary);
        let gender = self.pick(&[Some("Male"), Some("Female"), None]);
        let grade = child.then(|| self.rng.i8(-1..13));
        let membership = self.pick(MEMBERSHIPS);
        let membership = self.maybe(70, membership);
        let nickname = self.pick(FIRST);
        let nickname = self.maybe(10, nickname);
        let remote_id = self.rng.u32(1..);
        let remote_id = self.maybe(20, remote_id);
        let middle_name = self.maybe(15, "Lee");
        let medical_notes = self.maybe(5, "Allergic to nuts.\nCarries an \"EpiPen\".");
        let inactivated_at = inactive.then(|| frame.times.1.to_string());
        let name = format!("{first} {last}");
        self.attributes
            .start()
            .set("accounting_administrator", false)
            .set("anniversary", anniversary)
            .set(
                "avatar",
                format!(
                    "https://avatars.example.org/uploads/initials/{}.png",
                    frame.id
                ),
            )
            .set("birthdate", birthdate)
            .set("can_create_forms", false)
            .set("can_email_lists", false)
            .set("child", child)
            .time("created_at", frame.times.0)
            .nulls(["demographic_avatar_url"])
            .set("directory_status", "no_access")
            .set("first_name", first)
            .set("gender", gender)
            .nulls(["given_name"])
            .set("grade", grade)
            .nulls(["graduation_year"])
            .set("inactivated_at", inactivated_at)
            .set("last_name", last)
            .nulls(["login_identifier"])
            .set("medical_notes", medical_notes)
            .set("membership", membership)
            .set("middle_name", middle_name)
            .set("name", &name)
            .set("nickname", nickname)
            .set("passed_background_check", false)
            .nulls(["people_permissions"])
            .set("remote_id", remote_id)
            .nulls(["resource_permission_flags", "school_type"])
            .set("site_administrator", frame.id.is_multiple_of(500))
            .set("status", if inactive { "inactive" } else { "active" })
            .time("updated_at", frame.times.1);
        self.people.push(Someone {
            id: frame.id,
            name,
            last_name: last,
        });
    }

    fn birthdate(&mut self, recent: bool) -> String {
        let days = if recent {
            self.rng.i64(200..6_500)
        } else {
            self.rng.i64(6_600..32_000)
        };
        Seconds(Seconds::START.0 - days * 86_400).date()
    }

    /// Households share out the people in order; a few people are in two, one in twelve is in none.
    fn households(&mut self, rows: usize) {
        let mut timeline = self.begin(Entity::Household, rows);
        self.organisation
            .store_mut(Entity::HouseholdMembership)
            .reserve(self.people.len());
        let mut next = 0;
        for index in 0..rows {
            let id = self.id_after(Entity::Household);
            let share = self.people.len() * (index + 1) / rows;
            let mut members: Vec<usize> = (next..share).filter(|_| !self.chance(8)).collect();
            next = share;
            if self.chance(3) && !self.people.is_empty() {
                let guest = self.rng.usize(..self.people.len());
                if !members.contains(&guest) {
                    members.push(guest);
                }
            }
            self.household(&mut timeline, id, &members);
        }
    }

    fn household(&mut self, timeline: &mut Timeline, id: u64, members: &[usize]) {
        let contact = if self.chance(3) {
            None
        } else {
            members.first().copied()
        };
        let contact = contact.map(|index| &self.people[index]);
        let contact_id = contact.map_or(0, |person| person.id);
        let shown_id = contact.map(|person| person.id.to_string());
        let contact_name = contact.map(|person| person.name.clone());
        let last_name = contact.map_or("Empty", |person| person.last_name);
        let frame = self.frame(timeline, id, [contact_id, 0]);
        self.attributes
            .start()
            .nulls(["avatar"])
            .time("created_at", frame.times.0)
            .set("member_count", members.len())
            .set("name", format!("{last_name} Household"))
            .set("primary_contact_id", shown_id)
            .set("primary_contact_name", contact_name)
            .time("updated_at", frame.times.1);
        let times = frame.times;
        let ids = members.iter().map(|index| self.people[*index].id).collect();
        self.put(Entity::Household, frame, ids);
        for &member in members {
            let place = self
                .organisation
                .store(Entity::HouseholdMembership)
                .next_id();
            let pending = self.chance(4);
            let person = &self.people[member];
            let frame = Frame {
                id: place,
                times,
                slots: [id, person.id],
            };
            self.attributes
                .start()
                .set("pending", pending)
                .set("person_name", &person.name);
            self.put(Entity::HouseholdMembership, frame, Vec::new());
        }
    }

    /// The person at this share of the list, so that children of a person are near each other but some people have none.
    fn owner(&mut self, index: usize, rows: usize) -> Option<u64> {
        if self.people.is_empty() {
            return None;
        }
        let steady = self.people.len() * index / rows.max(1);
        let position = if self.chance(70) {
            steady
        } else {
            self.rng.usize(..self.people.len())
        };
        Some(self.people[position].id)
    }

    fn emails(&mut self, rows: usize) {
        let mut timeline = self.begin(Entity::Email, rows);
        for index in 0..rows {
            let Some(owner) = self.owner(index, rows) else {
                return;
            };
            let id = self.id_after(Entity::Email);
            let frame = self.frame(&mut timeline, id, [owner, 0]);
            let location = self.pick(&["Home", "Work", "Other"]);
            let (blocked, primary) = (self.chance(1), self.chance(75));
            self.attributes
                .start()
                .set("address", format!("person{owner}.{id}@example.org"))
                .set("blocked", blocked)
                .time("created_at", frame.times.0)
                .set("location", location)
                .set("primary", primary)
                .time("updated_at", frame.times.1);
            self.put(Entity::Email, frame, Vec::new());
        }
    }

    fn phone_numbers(&mut self, rows: usize) {
        let mut timeline = self.begin(Entity::PhoneNumber, rows);
        for index in 0..rows {
            let Some(owner) = self.owner(index, rows) else {
                return;
            };
            let id = self.id_after(Entity::PhoneNumber);
            let frame = self.frame(&mut timeline, id, [owner, 0]);
            let location = self.pick(&["Mobile", "Home", "Work"]);
            let primary = self.chance(75);
            let carrier = self.maybe(10, "Example Wireless");
            let (area, local) = (self.rng.u16(201..990), self.rng.u16(..10_000));
            let national = format!("({area}) 555-{local:04}");
            self.attributes
                .start()
                .set("carrier", carrier)
                .set("country_code", "US")
                .time("created_at", frame.times.0)
                .set("e164", format!("+1{area}555{local:04}"))
                .set("international", format!("+1 {area}-555-{local:04}"))
                .set("location", location)
                .set("national", &national)
                .set("number", &national)
                .set("primary", primary)
                .time("updated_at", frame.times.1);
            self.put(Entity::PhoneNumber, frame, Vec::new());
        }
    }

    fn addresses(&mut self, rows: usize) {
        let mut timeline = self.begin(Entity::Address, rows);
        for index in 0..rows {
            let Some(owner) = self.owner(index, rows) else {
                return;
            };
            let id = self.id_after(Entity::Address);
            let frame = self.frame(&mut timeline, id, [owner, 0]);
            let (city, state) = self.pick(CITIES);
            let street = self.pick(STREETS);
            let number = self.rng.u32(1..9_999);
            let second = self.maybe(12, format!("Apt {}", number % 90));
            let location = self.pick(&["Home", "Work", "Other"]);
            let primary = self.chance(80);
            let zip = self.rng.u32(..99_999);
            let zip = self.maybe(95, format!("{zip:05}"));
            self.attributes
                .start()
                .set("city", city)
                .set("country_code", "US")
                .set("country_name", "United States")
                .time("created_at", frame.times.0)
                .set("location", location)
                .set("primary", primary)
                .set("state", state)
                .set("street_line_1", format!("{number} {street}"))
                .set("street_line_2", second)
                .time("updated_at", frame.times.1)
                .set("zip", zip);
            self.put(Entity::Address, frame, Vec::new());
        }
    }

    /// Past merges name a survivor that exists and a person who does not.
    fn person_mergers(&mut self, rows: usize) {
        let mut timeline = self.begin(Entity::PersonMerger, rows);
        for index in 0..rows {
            let Some(keep) = self.owner(index, rows) else {
                return;
            };
            let created = timeline.next(&mut self.rng).0;
            let id = index as u64 + 1;
            let gone = 9_000_000_000 + id;
            self.attributes
                .start()
                .time("created_at", created)
                .set("person_to_keep_id", keep.to_string())
                .set("person_to_remove_id", gone.to_string());
            let frame = Frame {
                id,
                times: (created, created),
                slots: [0; 2],
            };
            self.put(Entity::PersonMerger, frame, Vec::new());
        }
    }

    fn group_types(&mut self, rows: usize) {
        for index in 0..rows {
            let id = index as u64 + 1;
            self.attributes
                .start()
                .set("church_center_visible", index % 2 == 0)
                .set("color", "#4fd2a0")
                .nulls(["description"])
                .set("name", format!("{} type", GROUPS[index % GROUPS.len()]))
                .set("position", index);
            let frame = Frame {
                id,
                times: (Seconds::START, Seconds::START),
                slots: [0; 2],
            };
            self.put(Entity::GroupType, frame, Vec::new());
        }
    }

    /// One group in seven is unique, with no type; one in twenty is archived.
    fn groups(&mut self, rows: usize, types: usize, memberships: usize) {
        let mut timeline = self.begin(Entity::Group, rows);
        for index in 0..rows {
            let id = index as u64 + 1;
            let kind = match types {
                0 => 0,
                _ if index % 7 == 3 => 0,
                _ => self.rng.u64(1..=types as u64),
            };
            let frame = self.frame(&mut timeline, id, [kind, 0]);
            let archived_at = (index % 20 == 19).then(|| frame.times.1.to_string());
            let description = self.maybe(60, "<p>Everybody is welcome &amp; fed.</p>");
            let preference = self.pick(&["physical", "virtual"]);
            let schedule = self.maybe(70, "Sundays at 9:30am");
            self.attributes
                .start()
                .set("archived_at", archived_at)
                .nulls(["contact_email"])
                .time("created_at", frame.times.0)
                .set("description", description)
                .set("events_visibility", "members")
                .set("header_image", Header::default())
                .set("location_type_preference", preference)
                .set("memberships_count", share(memberships, rows, index).len())
                .set("name", format!("{} {id}", GROUPS[index % GROUPS.len()]))
                .nulls(["public_church_center_web_url"])
                .set("schedule", schedule)
                .nulls(["virtual_location_url"]);
            self.put(Entity::Group, frame, Vec::new());
        }
    }

    fn memberships(&mut self, groups: usize, rows: usize) {
        let mut timeline = self.begin(Entity::Membership, rows);
        for group in 0..groups {
            for (place, index) in share(rows, groups, group).enumerate() {
                let Some(person) = self
                    .people
                    .get((group * 7 + place) % self.people.len().max(1))
                else {
                    return;
                };
                let slots = [group as u64 + 1, person.id];
                let frame = self.frame(&mut timeline, index as u64 + 1, slots);
                let role = if place == 0 { "leader" } else { "member" };
                self.attributes
                    .start()
                    .time("joined_at", frame.times.0)
                    .set("role", role);
                self.put(Entity::Membership, frame, Vec::new());
            }
        }
    }

    /// Meetings around the start of the clock: four in five past, the rest to come.
    fn events(&mut self, groups: usize, rows: usize) {
        let rows = if groups == 0 { 0 } else { rows };
        self.organisation.store_mut(Entity::Event).reserve(rows);
        for index in 0..rows {
            let group = self.rng.u64(1..=groups as u64);
            let submitter = self.owner(index, rows).unwrap_or(0);
            let submitter = self.maybe(30, submitter).unwrap_or(0);
            let starts = Seconds(Seconds::START.0 + self.rng.i64(-400..100) * 86_400);
            let canceled = self.chance(5);
            let canceled_at = canceled.then(|| Seconds(starts.0 - 3_600).to_string());
            let visitors = self.rng.u8(..9);
            let visitors = self.maybe(40, visitors);
            self.attributes
                .start()
                .set("attendance_requests_enabled", true)
                .set("automated_reminder_enabled", false)
                .set("canceled", canceled)
                .set("canceled_at", canceled_at)
                .nulls(["description"])
                .time("ends_at", Seconds(starts.0 + 5_400))
                .set("location_type_preference", "physical")
                .set("multi_day", false)
                .set("name", GROUPS[index % GROUPS.len()])
                .set("reminders_sent", false)
                .nulls(["reminders_sent_at"])
                .set("repeating", index % 2 == 0)
                .time("starts_at", starts)
                .nulls(["virtual_location_url"])
                .set("visitors_count", visitors);
            let times = (starts, starts);
            let frame = Frame {
                id: index as u64 + 1,
                times,
                slots: [group, submitter],
            };
            self.put(Entity::Event, frame, Vec::new());
        }
    }
}

/// The picture of a group, in three sizes.
#[derive(Default, Serialize)]
struct Header {
    medium: Option<&'static str>,
    original: Option<&'static str>,
    thumbnail: Option<&'static str>,
}

/// The part of `rows` that falls to one of `parts`.
fn share(rows: usize, parts: usize, part: usize) -> std::ops::Range<usize> {
    rows * part / parts..rows * (part + 1) / parts
}
