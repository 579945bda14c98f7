//! A TCP proxy that can hold what it is given, or swallow it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What the path does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// Passes them on.
    Open,
    /// Keeps them until it is open again.
    Slow,
    /// Swallows them. A connection that was open then is dead for good, and nobody tells its ends.
    Gone,
}

/// A path to a server.
pub(crate) struct Proxy {
    port: u16,
    path: watch::Sender<Path>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            path: watch::channel(Path::Open).0,
            connections: Arc::default(),
        };
        let (path, connections) = (proxy.path.subscribe(), Arc::clone(&proxy.connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                connections.fetch_add(1, Ordering::SeqCst);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let back = tokio::spawn(pump(from_server, to_client, path.clone()));
                let (path, connections) = (path.clone(), Arc::clone(&connections));
                tokio::spawn(async move {
                    pump(from_client, to_server, path).await;
                    back.abort();
                    connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        proxy
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn becomes(&self, path: Path) {
        self.path.send_replace(path);
    }

    /// How many connections their clients have not closed.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Carries bytes one way until their sender closes.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut path: watch::Receiver<Path>) {
    let mut is_dead = false;
    let mut held = Vec::new();
    let mut buffer = [0; 8_192];
    loop {
        tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(bytes) => held.extend_from_slice(&buffer[..bytes]),
            },
            changed = path.changed() => if changed.is_err() { return },
        }
        let now = *path.borrow_and_update();
        is_dead |= now == Path::Gone;
        if is_dead {
            held.clear();
        }
        if now == Path::Open && !held.is_empty() {
            if to.write_all(&held).await.is_err() {
                return;
            }
            held.clear();
        }
    }
}
