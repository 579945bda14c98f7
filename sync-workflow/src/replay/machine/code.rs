//! What workflow code does, through the context, while it is polled.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    task::{Poll, Waker},
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{Machine, NOW, Replayed, decode_time};
use crate::{
    failure::Failure,
    id::CommandId,
    record::{Record, RecordKind},
    replay::{
        command::{Command, Request, Resolution},
        fault::{Asked, Fault},
        scope::ScopeId,
    },
    tag::{self, InvalidTag, TagChange, Tags},
};

impl Machine {
    /// Numbers a command. This happens when the call is built, before its first poll.
    pub(crate) fn build(&mut self, command: Command) -> CommandId {
        self.notice_strays();
        let id = self.next_command_id();
        self.commands.insert(id, command);
        id
    }

    /// Changes a command that is still being built.
    pub(crate) fn configure(&mut self, id: CommandId, change: impl FnOnce(&mut Command)) {
        if let Some(command) = self.commands.get_mut(&id).filter(|command| !command.polled) {
            change(command);
        }
    }

    /// Polls a durable call: asks for it at the first poll, consumes its value once it is granted.
    pub(crate) fn poll(&mut self, id: CommandId, waker: &Waker) -> Poll<Resolution> {
        if self.notice_strays() {
            // Nobody would ever wake it.
            let failure = Failure::final_error(Fault::StrayCall.to_string());
            return Poll::Ready(Resolution::Failure(failure));
        }
        let Some(command) = self.commands.get_mut(&id) else {
            return Poll::Pending;
        };
        if self.granted == Some(id) {
            self.granted = None;
            let command = self.forget(id);
            return match command.and_then(|command| command.resolution) {
                Some(resolution) => Poll::Ready(resolution),
                None => Poll::Pending,
            };
        }
        match &mut command.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        command.awaited = true;
        if let Some(held_at) = command.held_at {
            self.grantable.insert((held_at, id));
        }
        if !command.polled {
            command.polled = true;
            self.asked.push(id);
        }
        Poll::Pending
    }

    /// As [`Self::poll`], but the machine keeps the value until the call is [consumed](Self::consume), whatever becomes of
    /// the code that looked at it.
    pub(crate) fn poll_kept(&mut self, id: CommandId, waker: &Waker) -> Poll<Resolution> {
        if self.granted == Some(id) {
            self.granted = None;
            self.decline(id);
            let command = self.commands.get(&id);
            if let Some(resolution) = command.and_then(|command| command.resolution.clone()) {
                return Poll::Ready(resolution);
            }
        }
        self.poll(id, waker)
    }

    /// Lets a value go that [`Self::poll_kept`] has shown.
    pub(crate) fn consume(&mut self, id: CommandId) {
        self.forget(id);
    }

    /// A durable call was dropped: its value will not be consumed.
    pub(crate) fn drop_command(&mut self, id: CommandId) {
        if let Some(command) = self
            .commands
            .get_mut(&id)
            .filter(|command| command.eager && !command.created)
        {
            command.orphaned = true;
            return;
        }
        let Some(command) = self.forget(id) else {
            return;
        };
        self.asked.retain(|asked| *asked != id);
        if self.granted == Some(id) {
            self.granted = None;
        }
        match (&command.request, command.resolution) {
            (
                Request::Signal {
                    received: Some(place),
                },
                Some(Resolution::Value(payload)),
            ) => self.unread.give_back(*place, command.name, payload),
            (_, None) if command.started => self.out.abandoned.push(id),
            _ => {}
        }
    }

    /// Notes a fault if the calling thread is not the one that polls the code: whatever asks for something there does so
    /// at a time that no replay repeats.
    fn notice_strays(&mut self) -> bool {
        let Some(tracker) = self.tracker.as_ref().filter(|tracker| !tracker.is_inside()) else {
            return false;
        };
        tracker.sound_alarm();
        self.fail_with(Fault::StrayCall);
        true
    }

    /// The time of this turn: one value for all code between two completions.
    pub(crate) fn now(&mut self) -> Timestamp {
        self.notice_strays();
        if let Some(told) = self.told_now {
            return told;
        }
        let told = match self.recorded_side_effect(NOW) {
            Ok(payload) => decode_time(&payload).unwrap_or(self.now),
            Err(command) => {
                let payload = Bytes::from(self.now.as_microsecond().to_string());
                self.record_side_effect(command, NOW, payload);
                self.now
            }
        };
        self.told_now = Some(told);
        told
    }

    /// The recorded value of the next side effect, or the command number to record it under.
    pub(crate) fn recorded_side_effect(&mut self, name: &str) -> Result<Bytes, CommandId> {
        self.notice_strays();
        let command = self.next_command_id();
        let asked = Asked {
            command,
            kind: RecordKind::SideEffect,
            name: name.into(),
            fingerprint: 0,
        };
        match self.replay_created(&asked) {
            Replayed::Recorded(record) => Ok(record.payload),
            Replayed::New | Replayed::Mismatch => Err(command),
        }
    }

    /// Records a value that was drawn. After a mismatch the value leads nowhere.
    pub(crate) fn record_side_effect(&mut self, command: CommandId, name: &str, payload: Bytes) {
        if !self.has_fault() {
            self.append(RecordKind::SideEffect, command, name.into(), 0, payload);
        }
    }

    /// Opens a scope within another one.
    pub(crate) fn open_scope(&mut self, within: ScopeId) -> ScopeId {
        self.scopes.open(within)
    }

    /// The scope with which a wait for a cancellation ends: clean-up that began before the run was asked to
    /// cancel hears of that.
    pub(crate) fn cancellation_scope(&self, scope: ScopeId) -> ScopeId {
        match scope == ScopeId::SHIELD && !self.is_cancelled() {
            true => ScopeId::RUN,
            false => scope,
        }
    }

    /// The version of a change that this run goes by: the one that it chose before, the latest one if it
    /// gets here for the first time, and the earliest one if it passed here before there was a change.
    pub(crate) fn version(&mut self, change: &str, supported: &RangeInclusive<u32>) -> u32 {
        self.notice_strays();
        let chosen = match self.versions.get(change) {
            Some(chosen) => *chosen,
            None => self.choose_version(change, supported),
        };
        if !supported.contains(&chosen) {
            self.fail_with(Fault::UnsupportedVersion {
                change: change.into(),
                chosen,
                supported: supported.clone(),
            });
        }
        chosen
    }

    fn choose_version(&mut self, change: &str, supported: &RangeInclusive<u32>) -> u32 {
        let name: Arc<str> = change.into();
        // An activity that is between attempts has no record, and was asked for all the same.
        let has_gone_on = self
            .last_attempted
            .is_some_and(|attempted| attempted.0 >= self.next_command);
        let passed_before = self.is_replaying() || has_gone_on || self.has_fault();
        let chosen = match passed_before {
            true => *supported.start(),
            false => *supported.end(),
        };
        if !passed_before {
            let payload = Bytes::from(chosen.to_string());
            let kind = RecordKind::VersionChosen;
            self.append(kind, Record::RUN, Arc::clone(&name), 0, payload);
        }
        self.versions.insert(name, chosen);
        chosen
    }

    /// Shows a value. What was shown before the end of the journal was committed with it.
    pub(crate) fn publish(&mut self, name: &str, payload: Bytes) {
        self.notice_strays();
        if !self.has_shown() && !self.has_fault() {
            self.out.published.push((name.into(), payload));
        }
    }

    /// Sets a tag, or takes it away. What happened before the end of the journal was committed with it.
    pub(crate) fn tag(&mut self, name: &str, value: Option<&str>) -> Result<(), InvalidTag> {
        tag::check(name, value.unwrap_or_default())?;
        if !self.tagged.contains(name) {
            if self.tagged.len() >= Tags::MAX {
                return Err(InvalidTag::TooMany);
            }
            self.tagged.insert(name.into());
        }
        if !self.has_shown() && !self.has_fault() {
            self.out.tags.push(TagChange {
                name: name.into(),
                value: value.map(Arc::from),
            });
        }
        Ok(())
    }

    /// 128 bits that follow from the run and the number of the command: the same in every replay,
    /// and different everywhere else.
    pub(crate) fn entropy(&mut self) -> u128 {
        self.notice_strays();
        let command = self.next_command_id();
        self.entropy_of(command)
    }

    /// Asks for a command now, whether or not it is ever polled: a child that is started.
    pub(crate) fn ask_eagerly(&mut self, id: CommandId) {
        if let Some(command) = self.commands.get_mut(&id).filter(|command| !command.polled) {
            command.polled = true;
            command.eager = true;
            self.asked.push(id);
        }
    }

    pub(crate) fn continue_as_new(&mut self, workflow: Arc<str>, input: Bytes) {
        self.continuation = Some((workflow, input));
    }
}
