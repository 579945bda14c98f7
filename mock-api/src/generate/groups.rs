//! The groups product: group types, groups, memberships, events.

use serde::Serialize;

use super::{Frame, Generator};
use crate::entity::Entity;
use crate::names::GROUPS;
use crate::seconds::Seconds;

impl Generator {
    pub(super) fn group_types(&mut self, rows: usize) {
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
    pub(super) fn groups(&mut self, rows: usize, types: usize, memberships: usize) {
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

    pub(super) fn memberships(&mut self, groups: usize, rows: usize) {
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
    pub(super) fn events(&mut self, groups: usize, rows: usize) {
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
