//! One connection through the proxy.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Blow, Shared,
    wire::{Conversation, Framer, Message},
};

/// How long the server's answer is waited for when nobody is left to read it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// No limit on what the client may read of the answer.
const UNLIMITED: usize = usize::MAX;
/// An idle server says so with this letter.
const IDLE: u8 = b'I';

/// What both directions of a connection know.
struct Link {
    shared: Arc<Shared>,
    frozen: watch::Receiver<bool>,
    /// What the server last said of its transaction.
    status: AtomicU8,
    /// How many bytes the client may still read.
    allowance: AtomicUsize,
}

/// Forwards both ways until one side closes, or a blow falls.
pub(super) async fn run(
    client: TcpStream,
    server: TcpStream,
    shared: Arc<Shared>,
    frozen: watch::Receiver<bool>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let link = Link {
        shared,
        frozen,
        status: AtomicU8::new(IDLE),
        allowance: AtomicUsize::new(UNLIMITED),
    };
    let mut from_server = from_server;
    let ended = {
        let up = link.forward_requests(from_client, to_server);
        let down = link.forward_answers(&mut from_server, to_client);
        tokio::pin!(up, down);
        tokio::select! {
            ended = &mut up => ended?,
            ended = &mut down => return ended,
        }
    };
    // The client's side is gone; what the server was told stands, and it may take its time.
    if let Some(to_server) = ended {
        let drained = timeout(ANSWERS_WITHIN, drain(&mut from_server));
        let _in_time = drained.await;
        drop(to_server);
    }
    Ok(())
}

async fn drain(from_server: &mut OwnedReadHalf) -> io::Result<()> {
    let mut framer = Framer::of_server();
    let mut chunk = vec![0; 4096];
    loop {
        let read = from_server.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        framer.push(&chunk[..read]);
        while let Some(message) = framer.next() {
            if message.transaction_status().is_some() {
                return Ok(());
            }
        }
    }
}

impl Link {
    /// Forwards what the client says. Returns the server's side if only the client's was cut.
    async fn forward_requests(
        &self,
        mut from_client: OwnedReadHalf,
        mut to_server: OwnedWriteHalf,
    ) -> io::Result<Option<OwnedWriteHalf>> {
        let mut framer = Framer::of_client();
        let mut conversation = Conversation::default();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = from_client.read(&mut chunk).await?;
            if read == 0 {
                return Ok(None);
            }
            self.pass().await?;
            framer.push(&chunk[..read]);
            while let Some(message) = framer.next() {
                let is_idle = self.status.load(Ordering::SeqCst) == IDLE;
                let blow = conversation
                    .commits(&message, is_idle)
                    .then(|| self.shared.take_blow())
                    .flatten();
                match blow {
                    None => to_server.write_all(&message.bytes).await?,
                    Some(Blow::Before) => return Ok(None),
                    Some(Blow::After) => {
                        to_server.write_all(&message.bytes).await?;
                        return Ok(Some(to_server));
                    }
                    Some(Blow::InReply) => self.cut_reply(&message, &mut to_server).await?,
                    Some(Blow::Hold(time)) => {
                        sleep(time).await;
                        to_server.write_all(&message.bytes).await?;
                    }
                }
            }
        }
    }

    async fn cut_reply(&self, message: &Message, to_server: &mut OwnedWriteHalf) -> io::Result<()> {
        self.allowance
            .store(fastrand::usize(1..24), Ordering::SeqCst);
        to_server.write_all(&message.bytes).await
    }

    async fn forward_answers(
        &self,
        from_server: &mut OwnedReadHalf,
        mut to_client: OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut framer = Framer::of_server();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            self.pass().await?;
            framer.push(&chunk[..read]);
            while let Some(message) = framer.next() {
                if let Some(status) = message.transaction_status() {
                    self.status.store(status, Ordering::SeqCst);
                }
            }
            let allowance = self.allowance.load(Ordering::SeqCst);
            to_client.write_all(&chunk[..read.min(allowance)]).await?;
            if allowance != UNLIMITED {
                if read >= allowance {
                    return Ok(());
                }
                self.allowance.store(allowance - read, Ordering::SeqCst);
            }
        }
    }

    /// Takes its time, and lets nothing through a black hole: what fell into it is lost, so the
    /// connection ends with it.
    async fn pass(&self) -> io::Result<()> {
        if !self.shared.delay.is_zero() {
            sleep(self.shared.delay).await;
        }
        let mut frozen = self.frozen.clone();
        if !*frozen.borrow() {
            return Ok(());
        }
        let _proxy_gone = frozen.wait_for(|is_frozen| !is_frozen).await;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}
