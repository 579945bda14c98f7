//! Hints between processes: LISTEN and NOTIFY, never in a transaction that writes.

use std::{collections::HashSet, convert::Infallible, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use sqlx::{
    Executor, PgPool,
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgListener, PgNotification},
    query_as,
};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use super::{failure::Effect, lane::Lane};
use crate::{
    id::{NodeId, RunId},
    journal::{Hint, Result, memory::bulletin::Bulletin},
};

/// The channel that hints are sent on: the name of the schema.
const CHANNEL: &str = "sync_workflow";

/// What a notification holds, in bytes; the server takes 7,999.
const MAX_NOTIFICATION_BYTES: usize = 7_900;

/// The most notifications for one call; more than fit are replaced by one that says "look again".
const MAX_NOTIFICATIONS: usize = 8;

/// The most hints that one read returns.
const MAX_READ: usize = 4_096;

/// How long the listener may hear nothing before it asks whether its connection lives.
const SILENCE: Duration = Duration::from_secs(60);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

const NOTIFY: &str = "
SELECT count(*) FROM (SELECT pg_notify($1, p.payload) FROM unnest($2::text[]) AS p(payload)) sent";

pub(super) async fn notify(lane: &Lane, hints: &[Hint]) -> Result<()> {
    let notifications = encode(hints);
    if notifications.is_empty() {
        return Ok(());
    }
    let query = query_as::<_, (i64,)>(NOTIFY)
        .bind(CHANNEL)
        .bind(&notifications);
    lane.rows(Effect::None, query)
        .await
        .map(drop)
        .map_err(|error| error.with(Effect::None))
}

/// What the nodes and clients of a process hear from other processes.
#[derive(Debug)]
pub(super) struct Listener {
    /// A pool of one, because that is what the driver's listener reconnects through. Absent where
    /// notifications do not arrive.
    pool: Option<PgPool>,
    deadline: Duration,
    state: Mutex<State>,
    /// Every reader takes each hint from here.
    bulletin: Bulletin,
}

#[derive(Debug)]
struct State {
    listener: Option<PgListener>,
    /// How long to wait before the next try to connect.
    pause: Duration,
}

impl Listener {
    pub(super) fn new(options: Option<PgConnectOptions>, deadline: Duration) -> Self {
        let pool = options.map(|options| {
            PoolOptions::new()
                .max_connections(1)
                .max_lifetime(None)
                .idle_timeout(None)
                .acquire_timeout(deadline)
                .connect_lazy_with(options)
        });
        Self {
            pool,
            deadline,
            state: Mutex::new(State {
                listener: None,
                pause: Duration::ZERO,
            }),
            bulletin: Bulletin::default(),
        }
    }

    /// Waits for hints. After every new connection it says "look again", because nobody knows what
    /// was said meanwhile. Where notifications do not arrive it waits for ever, and the polls of
    /// its callers are all there is.
    pub(super) async fn read(&self) -> Vec<Hint> {
        let Some(pool) = &self.pool else {
            return std::future::pending().await;
        };
        match select(pin!(self.bulletin.read()), pin!(self.listen(pool))).await {
            Either::Left((hints, _)) => hints,
            Either::Right((never, _)) => match never {},
        }
    }

    /// Posts what it hears. One caller at a time does it; the others wait for the bulletin.
    async fn listen(&self, pool: &PgPool) -> Infallible {
        let mut state = self.state.lock().await;
        loop {
            let hints = self.next(pool, &mut state).await;
            self.bulletin.post(hints);
        }
    }

    async fn next(&self, pool: &PgPool, state: &mut State) -> Vec<Hint> {
        loop {
            let Some(listener) = state.listener.as_mut() else {
                self.connect(pool, state).await;
                if state.listener.is_some() {
                    return vec![Hint::LookAgain];
                }
                continue;
            };
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => return drain(listener, &notification),
                Ok(Ok(None) | Err(_)) => {
                    state.listener = None;
                    return vec![Hint::LookAgain];
                }
                Err(_) if self.is_alive(listener).await => {}
                Err(_) => state.listener = None,
            }
        }
    }

    async fn connect(&self, pool: &PgPool, state: &mut State) {
        tokio::time::sleep(jittered(state.pause)).await;
        match timeout(self.deadline, begin_to_listen(pool)).await {
            Ok(Ok(listener)) => {
                state.listener = Some(listener);
                state.pause = FIRST_PAUSE;
            }
            Ok(Err(_)) | Err(_) => {
                state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            }
        }
    }

    async fn is_alive(&self, listener: &mut PgListener) -> bool {
        matches!(
            timeout(self.deadline, listener.execute("SELECT 1")).await,
            Ok(Ok(_))
        )
    }
}

async fn begin_to_listen(pool: &PgPool) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn drain(listener: &mut PgListener, first: &PgNotification) -> Vec<Hint> {
    let mut hints = HashSet::new();
    decode(first.payload(), &mut hints);
    while hints.len() < MAX_READ {
        let Some(next) = listener.next_buffered() else {
            break;
        };
        decode(next.payload(), &mut hints);
    }
    hints.into_iter().collect()
}

/// Packs hints into as few notifications as possible, one hint per line.
fn encode(hints: &[Hint]) -> Vec<String> {
    let mut notifications: Vec<String> = Vec::new();
    let distinct: HashSet<&Hint> = hints.iter().collect();
    for hint in distinct {
        let line = line(hint);
        match notifications.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= MAX_NOTIFICATION_BYTES => {
                last.push('\n');
                last.push_str(&line);
            }
            _ if line.len() > MAX_NOTIFICATION_BYTES => return vec![LOOK_AGAIN.to_owned()],
            _ => notifications.push(line),
        }
    }
    if notifications.len() > MAX_NOTIFICATIONS {
        return vec![LOOK_AGAIN.to_owned()];
    }
    notifications
}

const LOOK_AGAIN: &str = "l";

fn line(hint: &Hint) -> String {
    match hint {
        // A queue with a line break in its name reads back as something unknown: look again.
        Hint::Ready(queue) => format!("r{queue}"),
        Hint::Schedules(queue) => format!("s{queue}"),
        Hint::Arrived { node, run } => {
            format!("a{}{}", node.as_uuid().simple(), run.as_uuid().simple())
        }
        Hint::Closed(run) => format!("c{}", run.as_uuid().simple()),
        Hint::Published(run) => format!("p{}", run.as_uuid().simple()),
        Hint::LookAgain => LOOK_AGAIN.to_owned(),
    }
}

fn decode(payload: &str, hints: &mut HashSet<Hint>) {
    for line in payload.lines() {
        hints.insert(parse(line).unwrap_or(Hint::LookAgain));
    }
}

fn parse(line: &str) -> Option<Hint> {
    let rest = line.get(1..)?;
    match line.as_bytes().first()? {
        b'r' => Some(Hint::Ready(Arc::from(rest))),
        b's' => Some(Hint::Schedules(Arc::from(rest))),
        b'a' => Some(Hint::Arrived {
            node: NodeId::from_uuid(Uuid::try_parse(rest.get(..32)?).ok()?),
            run: RunId::from_uuid(Uuid::try_parse(rest.get(32..)?).ok()?),
        }),
        b'c' => Some(Hint::Closed(RunId::from_uuid(Uuid::try_parse(rest).ok()?))),
        b'p' => Some(Hint::Published(RunId::from_uuid(
            Uuid::try_parse(rest).ok()?,
        ))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u128) -> RunId {
        RunId::from_uuid(Uuid::from_u128(number))
    }

    fn round_trip(hints: &[Hint]) -> HashSet<Hint> {
        let mut read = HashSet::new();
        for notification in encode(hints) {
            assert!(notification.len() <= MAX_NOTIFICATION_BYTES);
            decode(&notification, &mut read);
        }
        read
    }

    #[test]
    fn hints_survive_a_notification() {
        let hints = [
            Hint::Ready("default".into()),
            Hint::Ready("".into()),
            Hint::Schedules("default".into()),
            Hint::Arrived {
                node: NodeId::from_uuid(Uuid::from_u128(7)),
                run: run(8),
            },
            Hint::Closed(run(9)),
            Hint::Published(run(10)),
            Hint::LookAgain,
        ];
        assert_eq!(round_trip(&hints), hints.iter().cloned().collect());
    }

    #[test]
    fn the_same_hint_is_sent_once() {
        let hints = vec![Hint::Ready("default".into()); 100];
        assert_eq!(encode(&hints), ["rdefault"]);
    }

    #[test]
    fn more_hints_than_fit_become_one_that_says_look_again() {
        let hints: Vec<_> = (0..100_000).map(|n| Hint::Closed(run(n))).collect();
        assert_eq!(encode(&hints), [LOOK_AGAIN]);
    }

    #[test]
    fn what_nobody_understands_means_look_again() {
        let mut read = HashSet::new();
        decode("xyz\nc123\na\né", &mut read);
        assert_eq!(read, HashSet::from([Hint::LookAgain]));
    }
}
