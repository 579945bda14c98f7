//! Progress on a terminal: a bar per entity.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sync_core::EntityName;
use sync_engine::EntityProgress;

/// The bars of a sync.
#[derive(Default)]
pub(crate) struct Bars {
    all: MultiProgress,
    entities: BTreeMap<EntityName, ProgressBar>,
}

impl Bars {
    pub(crate) fn show(&mut self, progress: &[EntityProgress]) {
        for entity in progress {
            let bar = self
                .entities
                .entry(entity.entity.clone())
                .or_insert_with(|| {
                    let bar = ProgressBar::new(0).with_prefix(entity.entity.to_string());
                    let template = "{prefix:>12} {bar:30} {pos:>8} of {len} {msg}";
                    if let Ok(style) = ProgressStyle::with_template(template) {
                        bar.set_style(style);
                    }
                    self.all.add(bar)
                });
            let received = entity.counts.changes.received();
            bar.set_length(entity.total.unwrap_or(received).max(received));
            bar.set_position(received);
            bar.set_message(entity.status.map_or("", |status| status.as_str()));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entities.values().for_each(ProgressBar::finish);
        // A terminal that cannot be cleared keeps the bars, which does no harm.
        let _cleared = self.all.clear();
    }
}
