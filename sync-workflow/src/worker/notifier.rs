//! Hints for other processes, gathered and sent after the commits that caused them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    id::RunId,
    journal::{Hint, Journal, RunSelector},
    status::RunStatus,
};

/// How long hints gather before they are sent together.
const GATHER: Duration = Duration::from_millis(10);
/// How many hints may wait. More are dropped: a hint is never the only way to find out.
const QUEUE: usize = 4_096;
/// How many woken runs are looked up at once. Of more, one hint tells all queues.
const MAX_LOOKED_UP: usize = 16;

/// Where hints are handed in. Never waits.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(mpsc::Sender<News>);

/// What a notifier is handed.
#[derive(Debug)]
pub(crate) enum News {
    /// This is to be told.
    Hint(Hint),
    /// Something woke a run that slept. Whoever serves its queue is to be told, unless somebody has
    /// taken it by then.
    Woken(RunId),
}

impl Notifier {
    pub(crate) fn new() -> (Self, mpsc::Receiver<News>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    pub(crate) fn hint(&self, hint: Hint) {
        let _full = self.0.try_send(News::Hint(hint));
    }

    pub(crate) fn woken(&self, run: RunId) {
        let _full = self.0.try_send(News::Woken(run));
    }
}

/// Sends what gathers until nobody can hand in more.
pub(crate) async fn run(journal: Arc<dyn Journal>, mut news: mpsc::Receiver<News>) {
    while let Some(first) = news.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut gathered = Gathered::default();
        gathered.add(first);
        while let Ok(next) = news.try_recv() {
            gathered.add(next);
        }
        let hints = gathered.into_hints(&*journal).await;
        if hints.is_empty() {
            continue;
        }
        if let Err(error) = journal.notify(&hints).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "hints_not_sent");
        }
    }
}

/// What is told together.
#[derive(Default)]
struct Gathered {
    hints: HashSet<Hint>,
    woken: HashSet<RunId>,
}

impl Gathered {
    fn add(&mut self, news: News) {
        match news {
            News::Hint(hint) => self.hints.insert(hint),
            News::Woken(run) => self.woken.insert(run),
        };
    }

    async fn into_hints(mut self, journal: &dyn Journal) -> Vec<Hint> {
        if self.woken.len() > MAX_LOOKED_UP {
            self.hints.insert(Hint::Ready("".into()));
        } else {
            for run in self.woken {
                self.hints
                    .extend(queue_of(journal, run).await.map(Hint::Ready));
            }
        }
        self.hints.into_iter().collect()
    }
}

/// The queue of a run that waits to be taken. Any queue if that cannot be found out.
async fn queue_of(journal: &dyn Journal, run: RunId) -> Option<Arc<str>> {
    match journal.describe(&RunSelector::Run(run)).await {
        Ok(Some(info)) => (info.status == RunStatus::Pending).then_some(info.queue),
        Ok(None) => None,
        Err(_) => Some("".into()),
    }
}
