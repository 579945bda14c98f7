//! What a run tells other runs: signals, and to its children that they are to cancel.
//!
//! A signal is delivered once every record before it is durable, under an id that follows from the run
//! and the command. So whoever drives the run after a crash delivers it again, and the receiver gets it
//! once. The record that it was sent comes after.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Driver, abort::AbortOnDrop};
use crate::{
    failure::{Failure, FailureKind},
    id::{CommandId, RunId, WorkflowId},
    journal::{Batch, Error, MAX_PAYLOAD_BYTES, NewSignal, RunSelector, SignalOutcome, WokenRun},
    worker::{backoff::Backoff, mailbox::Message, node::Node},
};

/// What of one run is under way to others.
#[derive(Default)]
pub(super) struct Sends(HashMap<Sent, AbortOnDrop>);

/// Something that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::worker) enum Sent {
    /// The signal of this command.
    Signal(CommandId),
    /// The request to this child to cancel.
    Cancel(RunId),
}

impl Sends {
    pub(super) fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn ended(&mut self, sent: Sent) {
        self.0.remove(&sent);
    }

    pub(super) fn abandon_all(&mut self) {
        self.0.clear();
    }
}

impl Driver {
    pub(super) fn send_signal(
        &mut self,
        command: CommandId,
        to: WorkflowId,
        name: Arc<str>,
        payload: Bytes,
    ) {
        let sent = Sent::Signal(command);
        if self.is_draining || self.sends.0.contains_key(&sent) {
            return;
        }
        let signal = NewSignal {
            to: RunSelector::Latest(to),
            id: format!("{}/{command}", self.claimed.run).into(),
            name,
            payload,
        };
        let node = Arc::clone(&self.node);
        let mailbox = self.mailbox.clone();
        let task = tokio::spawn(async move {
            // A node that is fenced has nothing to tell any more.
            if let Some(result) = deliver(&node, &signal).await {
                mailbox.send(Message::SignalSent { command, result });
            }
        });
        self.sends.0.insert(sent, AbortOnDrop::new(&task));
    }

    /// Asks a child to cancel. A worker that ends before it happened leaves it to whoever drives the run next.
    /// One that another run started is asked only if it is this run's child now.
    pub(super) fn cancel_child(&mut self, child: RunId, is_inherited: bool) {
        let sent = Sent::Cancel(child);
        if self.is_draining || self.sends.0.contains_key(&sent) {
            return;
        }
        let node = Arc::clone(&self.node);
        let mailbox = self.mailbox.clone();
        let parent = self.claimed.run;
        let task = tokio::spawn(async move {
            if !is_inherited || is_child_of(&node, child, parent).await {
                ask_to_cancel(&node, child).await;
            }
            mailbox.send(Message::CancelSent { child });
        });
        self.sends.0.insert(sent, AbortOnDrop::new(&task));
    }
}

/// Asks a run to cancel, however often it takes.
async fn ask_to_cancel(node: &Node, run: RunId) {
    let selector = RunSelector::Run(run);
    let mut pause = Backoff::new(Duration::from_millis(5));
    loop {
        match node.journal.request_cancel(&selector).await {
            Ok(Some(woken)) => {
                tell_woken(node, woken);
                return;
            }
            // It has ended.
            Ok(None) => return,
            Err(error) if error.is_transient() => {
                if node.pause(&mut pause).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, run_id = %run, "cancel_not_sent");
                return;
            }
        }
    }
}

/// Whether a run is a child of another one, as far as that can be told.
async fn is_child_of(node: &Node, run: RunId, parent: RunId) -> bool {
    let mut pause = Backoff::new(Duration::from_millis(5));
    loop {
        match node.journal.describe(&RunSelector::Run(run)).await {
            Ok(info) => return info.and_then(|info| info.parent) == Some(parent),
            Err(error) if error.is_transient() && node.pause(&mut pause).await.is_ok() => {}
            Err(_) => return false,
        }
    }
}

fn tell_woken(node: &Node, woken: WokenRun) {
    if woken.node == Some(node.id) {
        node.tell_arrived(woken.run);
    }
    node.woken(&[woken]);
}

/// Delivers a signal, however often it takes. `None` when the node ends meanwhile.
async fn deliver(node: &Node, signal: &NewSignal) -> Option<Result<(), Failure>> {
    if signal.payload.len() > MAX_PAYLOAD_BYTES {
        return Some(Err(Failure::final_error(format!(
            "the signal has {} bytes, more than the limit of {MAX_PAYLOAD_BYTES} bytes",
            signal.payload.len()
        ))));
    }
    let _turn = node.sends.acquire().await.ok()?;
    let mut pause = Backoff::new(Duration::from_millis(5));
    loop {
        match node.journal.send_signal(node.id, signal).await {
            Ok(SignalOutcome::Delivered(woken)) => {
                tell_woken(node, woken);
                return Some(Ok(()));
            }
            Ok(SignalOutcome::Duplicate) => return Some(Ok(())),
            Ok(SignalOutcome::NotOpen) => return Some(Err(not_open(&signal.to))),
            Err(Error::Fenced) => return None,
            Err(error) if error.is_transient() => {
                if let Error::Unknown(_) = error {
                    // So that no delivery in doubt lands after the next answer.
                    node.has_happened(&Batch::default()).await.ok()?;
                }
                node.pause(&mut pause).await.ok()?;
            }
            Err(error) => return Some(Err(Failure::from_error(&error).into_final())),
        }
    }
}

fn not_open(to: &RunSelector) -> Failure {
    let whom = match to {
        RunSelector::Latest(workflow_id) => workflow_id.to_string(),
        RunSelector::Run(run) => run.to_string(),
    };
    Failure::of_kind(
        FailureKind::NotOpen,
        format!("no run of {whom:?} is open to be signalled"),
    )
    .into_final()
}
