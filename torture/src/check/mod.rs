//! The checker: reads everything through the public port, and says where it breaks the promise.

mod effects;
#[cfg(test)]
mod families;
mod history;
mod outcomes;
mod records;

use std::collections::HashMap;

use sync_workflow::id::NodeId;

pub(crate) use history::Histories;

use crate::{fault::Held, ledger::Entries, load::Started, store::Store};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Violation {
    /// Which one.
    pub(crate) rule: &'static str,
    /// Where, and how.
    pub(crate) detail: String,
}

impl Violation {
    pub(crate) fn new(rule: &'static str, detail: impl Into<String>) -> Self {
        Self {
            rule,
            detail: detail.into(),
        }
    }
}

/// What the checker may rely on, which depends on the fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground {
    /// The clocks of the victims tell the true time.
    pub(crate) clocks_are_true: bool,
    /// No worker died, so nothing is tried twice.
    pub(crate) is_graceful: bool,
}

/// Everything that the referee knows once it is quiet.
pub(crate) struct Evidence {
    pub(crate) histories: Histories,
    pub(crate) started: Vec<Started>,
    pub(crate) entries: Entries,
    pub(crate) effects: Vec<(String, String)>,
    pub(crate) node_ends: HashMap<NodeId, i64>,
}

impl Evidence {
    /// Reads the whole journal and the ledger.
    pub(crate) async fn gather(
        store: &Store,
        started: Vec<Started>,
        entries: Entries,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            histories: Histories::read(store.client()).await?,
            started,
            entries,
            effects: store.effects().await?,
            node_ends: store.node_ends().await?.into_iter().collect(),
        })
    }

    /// Every violation.
    pub(crate) fn violations(&self, ground: Ground) -> Vec<Violation> {
        let mut found = Vec::new();
        for history in self.histories.iter() {
            records::check(history, &mut found);
            outcomes::check_run(history, &self.histories, &mut found);
        }
        outcomes::check_chains(&self.started, &self.histories, &mut found);
        effects::check_transactions(&self.histories, &self.effects, &mut found);
        effects::check_activities(self, ground, &mut found);
        found
    }

    /// How long after a strike the first record of the runs that it met was committed, in microseconds.
    pub(crate) fn recovery(&self, at: i64, held: &Held) -> Option<i64> {
        let next = match held {
            Held::Runs(runs) => runs
                .iter()
                .filter_map(|run| self.histories.get(*run)?.next_after(at))
                .min(),
            Held::Any => self.histories.next_after(at),
            Held::Unknown => None,
        };
        Some(next? - at)
    }
}
