//! As much of the protocol of Postgres as it takes to see a commit go by.

use std::collections::HashMap;

/// Cuts a stream of bytes into messages.
pub(super) struct Framer {
    buffer: Vec<u8>,
    /// The first message of a client has no tag.
    is_tagged: bool,
}

/// A whole message: tag, length and content as they were sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) bytes: Vec<u8>,
}

/// The tag of the message that opens a session, which has none.
const STARTUP: u8 = 0;
/// Where the content begins, after tag and length.
const CONTENT: usize = 5;

impl Framer {
    pub(super) const fn of_client() -> Self {
        Self {
            buffer: Vec::new(),
            is_tagged: false,
        }
    }

    pub(super) const fn of_server() -> Self {
        Self {
            buffer: Vec::new(),
            is_tagged: true,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, once it is there as a whole.
    pub(super) fn next(&mut self) -> Option<Message> {
        let header = usize::from(self.is_tagged);
        let length = self.buffer.get(header..header + 4)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes were taken"));
        let whole = header + (length as usize).max(4);
        if self.buffer.len() < whole {
            return None;
        }
        let rest = self.buffer.split_off(whole);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        let tag = if self.is_tagged { bytes[0] } else { STARTUP };
        self.is_tagged = true;
        Some(Message { tag, bytes })
    }
}

impl Message {
    /// The texts at the beginning of the content, each ended by a zero.
    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .get(CONTENT..)
            .unwrap_or_default()
            .split(|byte| *byte == 0)
    }

    /// Whether a server is idle, in a transaction or in a failed one, if this message tells.
    pub(super) fn transaction_status(&self) -> Option<u8> {
        (self.tag == b'Z').then(|| self.bytes.get(CONTENT).copied())?
    }
}

/// What a client has prepared so far.
#[derive(Default)]
pub(super) struct Conversation {
    /// Whether each prepared statement appends to the journal.
    statements: HashMap<Vec<u8>, bool>,
    portals: HashMap<Vec<u8>, bool>,
    appends: bool,
}

/// What every statement of the committer does.
const APPENDS: &[u8] = b"INSERT INTO sync_workflow.journal";

impl Conversation {
    /// Whether the server commits when it gets this message. `is_idle` tells that no transaction is
    /// open, so that a statement is one by itself.
    pub(super) fn commits(&mut self, message: &Message, is_idle: bool) -> bool {
        let mut texts = message.texts();
        match message.tag {
            b'P' => {
                let (name, sql) = (texts.next(), texts.next().unwrap_or_default());
                let appends = sql.windows(APPENDS.len()).any(|part| part == APPENDS);
                self.statements
                    .insert(name.unwrap_or_default().to_vec(), appends);
            }
            b'B' => {
                let (portal, statement) = (texts.next(), texts.next().unwrap_or_default());
                let appends = self.statements.get(statement).copied().unwrap_or_default();
                self.portals
                    .insert(portal.unwrap_or_default().to_vec(), appends);
            }
            b'E' => {
                let portal = texts.next().unwrap_or_default();
                self.appends |= self.portals.get(portal).copied().unwrap_or_default();
            }
            b'S' => return std::mem::take(&mut self.appends) && is_idle,
            b'Q' => {
                let sql = texts.next().unwrap_or_default();
                return sql.trim_ascii().eq_ignore_ascii_case(b"commit");
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, content: &[u8]) -> Message {
        let mut bytes = vec![tag];
        let length = u32::try_from(content.len() + 4).unwrap();
        bytes.extend(length.to_be_bytes());
        bytes.extend(content);
        Message { tag, bytes }
    }

    #[test]
    fn messages_come_out_whole_however_they_came_in() {
        let startup = b"\0\0\0\x08\0\x03\0\0";
        let query = message(b'Q', b"commit\0");
        let mut framer = Framer::of_client();
        let mut got = Vec::new();
        for byte in startup.iter().chain(&query.bytes) {
            framer.push(&[*byte]);
            got.extend(framer.next());
        }
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].tag, STARTUP);
        assert_eq!(got[1], query);
    }

    #[test]
    fn a_commit_is_seen_in_both_protocols() {
        let mut conversation = Conversation::default();
        let mut commits = |message: &Message, is_idle| conversation.commits(message, is_idle);
        assert!(commits(&message(b'Q', b"COMMIT\0"), false));
        assert!(!commits(&message(b'Q', b"ROLLBACK\0"), false));
        let parse = message(
            b'P',
            b"s1\0with x as (INSERT INTO sync_workflow.journal ...\0\0\0",
        );
        let bind = message(b'B', b"\0s1\0\0\0");
        let execute = message(b'E', b"\0\0\0\0\0");
        let sync = message(b'S', b"");
        for is_idle in [true, false] {
            for before in [&parse, &bind, &execute] {
                assert!(!commits(before, is_idle));
            }
            assert_eq!(commits(&sync, is_idle), is_idle);
            assert!(!commits(&sync, is_idle), "it was executed once");
        }
    }

    #[test]
    fn a_statement_that_only_reads_does_not_commit() {
        let mut conversation = Conversation::default();
        let messages = [
            message(b'P', b"s1\0select 1\0\0\0"),
            message(b'B', b"\0s1\0\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ];
        for message in messages {
            assert!(!conversation.commits(&message, true));
        }
    }

    #[test]
    fn the_server_tells_whether_a_transaction_is_open() {
        assert_eq!(message(b'Z', b"T").transaction_status(), Some(b'T'));
        assert_eq!(message(b'C', b"T").transaction_status(), None);
    }
}
