//! What became of each record, and how many of each.

use std::{iter::Sum, ops::AddAssign};

use serde::{Deserialize, Serialize};

/// What a sync did with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was new, or came back after a deletion.
    Insert,
    /// Its content hash differed.
    Update,
    /// Its content hash was the same; the row was not rewritten.
    Unchanged,
    /// The source no longer has it; the row became a tombstone.
    Delete,
    /// Its document could not become a record.
    Quarantined,
}

/// How many records met which change. Adds up from page to entity to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeCounts {
    /// New or revived records.
    pub inserted: u64,
    /// Changed records.
    pub updated: u64,
    /// Records that were the same.
    pub unchanged: u64,
    /// Records that became tombstones.
    pub deleted: u64,
    /// Documents set aside.
    pub quarantined: u64,
}

impl ChangeCounts {
    /// Counts one change.
    pub fn count(&mut self, change: Change) {
        match change {
            Change::Insert => self.inserted += 1,
            Change::Update => self.updated += 1,
            Change::Unchanged => self.unchanged += 1,
            Change::Delete => self.deleted += 1,
            Change::Quarantined => self.quarantined += 1,
        }
    }

    /// Documents received: all but the deletions.
    pub fn received(&self) -> u64 {
        self.inserted + self.updated + self.unchanged + self.quarantined
    }
}

impl AddAssign for ChangeCounts {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.deleted += other.deleted;
        self.quarantined += other.quarantined;
    }
}

/// The counts of one entity's sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EntityCounts {
    /// What became of its records.
    #[serde(flatten)]
    pub changes: ChangeCounts,
    /// Pages written.
    pub pages: u64,
    /// Requests sent, the repeated ones too.
    pub requests: u64,
}

impl AddAssign for EntityCounts {
    fn add_assign(&mut self, other: Self) {
        self.changes += other.changes;
        self.pages += other.pages;
        self.requests += other.requests;
    }
}

impl Sum for EntityCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_write_flat() {
        let mut page = ChangeCounts::default();
        for change in [Change::Insert, Change::Delete, Change::Quarantined] {
            page.count(change);
        }
        assert_eq!(page.received(), 2);
        let entity = EntityCounts {
            changes: page,
            pages: 1,
            requests: 2,
        };
        let sum: EntityCounts = [entity, entity].into_iter().sum();
        let json = serde_json::to_value(sum).unwrap();
        assert_eq!(json["inserted"], 2);
        assert_eq!(json["requests"], 4);
        assert_eq!(serde_json::from_value::<EntityCounts>(json).unwrap(), sum);
    }
}
