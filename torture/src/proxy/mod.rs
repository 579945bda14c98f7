//! A TCP proxy between workers and Postgres that knows a commit when it sees one.

mod session;
mod wire;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// What happens to the next commit that goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The connection is cut, and the commit is not forwarded.
    Before,
    /// It is forwarded, and the client's side is cut at once.
    After,
    /// It is forwarded, and the connection is cut after some bytes of the answer.
    InReply,
    /// It is forwarded after this time, whoever still waits for it.
    Hold(Duration),
}

/// A running proxy.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    frozen: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// What all sessions look at.
struct Shared {
    upstream: Mutex<SocketAddr>,
    armed: Mutex<Option<Armed>>,
    /// How long each direction takes.
    delay: Duration,
}

/// A blow that waits for a commit, and who wants to know when it fell.
struct Armed {
    blow: Blow,
    fallen: oneshot::Sender<i64>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to a server there.
    pub(crate) async fn start(port: u16, delay: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(([127, 0, 0, 1], port).into()),
            armed: Mutex::new(None),
            delay,
        });
        let (frozen, is_frozen) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), is_frozen));
        Ok(Self {
            port: own_port,
            shared,
            frozen,
            accepting,
        })
    }

    /// The URL of a database, by way of the proxy.
    pub(crate) fn url(&self, direct: &str) -> anyhow::Result<String> {
        let (before, rest) = direct.rsplit_once('@').context("the url has no host")?;
        let (_, database) = rest.split_once('/').context("the url has no database")?;
        let database = database.split('?').next().unwrap_or_default();
        let port = self.port;
        // The proxy reads along, so there is no encryption.
        Ok(format!(
            "{before}@127.0.0.1:{port}/{database}?sslmode=disable"
        ))
    }

    /// Lets a blow fall on the next commit. The answer is when it fell, in microseconds.
    pub(crate) fn arm(&self, blow: Blow) -> oneshot::Receiver<i64> {
        let (fallen, when) = oneshot::channel();
        *self.shared.armed() = Some(Armed { blow, fallen });
        when
    }

    /// Takes back a blow that has not fallen.
    pub(crate) fn disarm(&self) {
        *self.shared.armed() = None;
    }

    /// Lets everything vanish that any connection says, until it is thawed.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        self.frozen.send_replace(is_frozen);
    }

    /// Forwards new connections to another server.
    pub(crate) fn redirect(&self, port: u16) {
        *self.shared.upstream() = ([127, 0, 0, 1], port).into();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn armed(&self) -> std::sync::MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upstream(&self) -> std::sync::MutexGuard<'_, SocketAddr> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blow that falls on this commit.
    fn take_blow(&self) -> Option<Blow> {
        let armed = self.armed().take()?;
        // Whoever armed it may have stopped waiting; it falls all the same.
        let _unheard = armed.fallen.send(crate::fault::now());
        Some(armed.blow)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, frozen: watch::Receiver<bool>) {
    // Dropped with the proxy, and so are its sessions.
    let mut sessions = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (shared, frozen) = (Arc::clone(&shared), frozen.clone());
        sessions.spawn(async move {
            let upstream = *shared.upstream();
            // A server that is down shows as a connection that is closed at once.
            if let Ok(server) = TcpStream::connect(upstream).await {
                let _cut = session::run(client, server, shared, frozen).await;
            }
        });
        while sessions.try_join_next().is_some() {}
    }
}
