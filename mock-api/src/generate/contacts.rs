//! Emails, phone numbers and addresses.

use super::Generator;
use crate::entity::Entity;
use crate::names::{CITIES, STREETS};

impl Generator {
    pub(super) fn emails(&mut self, rows: usize) {
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

    pub(super) fn phone_numbers(&mut self, rows: usize) {
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

    pub(super) fn addresses(&mut self, rows: usize) {
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
}
