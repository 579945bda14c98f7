//! A running server, and how it is started.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin;
use crate::control::Control;
use crate::error::Error;
use crate::generate::generate;
use crate::limit::RateLimit;
use crate::record::Home;
use crate::serve::serve;
use crate::server::Server;
use crate::size::Size;
use crate::token::Token;

/// The id of the first organisation; the next ones follow.
const FIRST_ORGANISATION: u64 = 900_001;

/// A running mock API. It stops when it is dropped.
pub struct MockApi {
    address: SocketAddr,
    admin_address: SocketAddr,
    control: Control,
    organisations: usize,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    seed: u64,
    size: Size,
    organisations: usize,
    port: u16,
    admin_port: u16,
    rate_limit: Option<RateLimit>,
}

impl MockApi {
    /// Starts to describe a server: 100 people, one organisation, any free ports, the usual rate limit.
    pub fn builder() -> Builder {
        Builder {
            seed: 1,
            size: Size::of(100),
            organisations: 1,
            port: 0,
            admin_port: 0,
            rate_limit: Some(RateLimit::default()),
        }
    }

    /// Where the API is: `http://127.0.0.1:PORT`, without a slash at the end. Lists are beneath it, at
    /// `/people/v2/people` and so on.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the control plane is.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address)
    }

    /// The bearer token of the first organisation.
    pub fn token(&self) -> String {
        Token::first_of(0).bearer
    }

    /// The credentials that every organisation has from the start, in order.
    pub fn tokens(&self) -> Vec<Token> {
        (0..self.organisations).map(Token::first_of).collect()
    }

    /// The control plane, for the first organisation.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Stops the server and waits until its connections are closed. Requests in flight are answered first.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks) {
            if let Err(error) = task.await {
                tracing::error!(%error, "server_task_failed");
            }
        }
    }
}

impl Drop for MockApi {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Builder {
    /// The seed of the data; the same seed and size give the same data.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// This many people per organisation, and everything else in proportion ([`Size::of`]).
    #[must_use]
    pub fn people(self, people: usize) -> Self {
        self.size(Size::of(people))
    }

    /// The number of records of each kind per organisation.
    #[must_use]
    pub fn size(self, size: Size) -> Self {
        Self { size, ..self }
    }

    /// The number of organisations, each with a token and data of its own; at least one.
    #[must_use]
    pub fn organisations(self, organisations: usize) -> Self {
        Self {
            organisations: organisations.max(1),
            ..self
        }
    }

    /// The port of the API; zero takes any free one.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The port of the control plane; zero takes any free one.
    #[must_use]
    pub fn admin_port(self, admin_port: u16) -> Self {
        Self { admin_port, ..self }
    }

    /// The rate limit per token; `None` turns it and its headers off.
    #[must_use]
    pub fn rate_limit(self, rate_limit: Option<RateLimit>) -> Self {
        Self { rate_limit, ..self }
    }

    /// Generates the data, binds both ports on 127.0.0.1 and serves on the current runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] when a port cannot be bound.
    pub async fn start(self) -> Result<MockApi, Error> {
        let listener = listen(self.port).await?;
        let admin_listener = listen(self.admin_port).await?;
        let address = address(&listener)?;
        let admin_address = self::address(&admin_listener)?;
        let base = format!("http://{address}");
        let Self {
            seed,
            size,
            organisations,
            rate_limit,
            ..
        } = self;
        let data = tokio::task::spawn_blocking(move || {
            let homes = (0..organisations as u64).map(|number| Home {
                base: base.clone(),
                organisation: FIRST_ORGANISATION + number,
            });
            let seeds = seed..;
            homes
                .zip(seeds)
                .map(|(home, seed)| generate(seed, size, home))
                .collect()
        });
        let data = data.await.map_err(|_| Error::Generate)?;
        let server = Arc::new(Server::new(data, rate_limit));
        let control = Control::new(Arc::clone(&server));
        let (stop, stopped) = watch::channel(false);
        let api = Router::new().fallback(serve).with_state(server);
        let admin = admin::router(control.clone());
        let tasks = vec![
            tokio::spawn(run(listener, api, stopped.clone())),
            tokio::spawn(run(admin_listener, admin, stopped)),
        ];
        Ok(MockApi {
            address,
            admin_address,
            control,
            organisations,
            stop,
            tasks,
        })
    }
}

async fn listen(port: u16) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    bound.map_err(|source| Error::Listen { port, source })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener
        .local_addr()
        .map_err(|source| Error::Listen { port: 0, source })
}

async fn run(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay_refused");
        }
    });
    // An error means that the sender is gone, which is a stop as well.
    let stop = async move { stopped.wait_for(|stop| *stop).await.map_or((), drop) };
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "listener_failed");
    }
}
