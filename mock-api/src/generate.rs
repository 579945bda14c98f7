//! The seeded generator: the same seed and size give the same organisation, byte for byte.

mod contacts;
mod groups;

use fastrand::Rng;

use crate::attributes::Attributes;
use crate::entity::Entity;
use crate::names::{CAMPUSES, CITIES, FIRST, LAST, MEMBERSHIPS};
use crate::organisation::Organisation;
use crate::record::{Facts, Home, Record};
use crate::seconds::Seconds;
use crate::size::Size;
use crate::timeline::Timeline;

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
}
