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
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout},
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
    let delay = shared.delay;
    // The connection itself takes a round trip.
    sleep(2 * delay).await;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let from_client = Way::of(from_client, delay);
    let mut from_server = Way::of(from_server, delay);
    let link = Link {
        shared,
        frozen,
        status: AtomicU8::new(IDLE),
        allowance: AtomicUsize::new(UNLIMITED),
    };
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

async fn drain(from_server: &mut Way) {
    let mut framer = Framer::of_server();
    while let Some(chunk) = from_server.read().await {
        framer.push(&chunk);
        while let Some(message) = framer.next() {
            if message.transaction_status().is_some() {
                return;
            }
        }
    }
}

/// One direction of a connection. What it carries arrives late, and side by side: bytes are on their
/// way while others are.
struct Way {
    arriving: mpsc::Receiver<(Instant, Vec<u8>)>,
    carrying: AbortHandle,
}

/// The most that is on its way in one direction, in pieces of at most [`PIECE`] bytes.
const PIECES: usize = 64;
const PIECE: usize = 64 * 1024;

impl Way {
    fn of(mut from: OwnedReadHalf, delay: Duration) -> Self {
        let (leave, arriving) = mpsc::channel(PIECES);
        let carry = async move {
            let mut piece = vec![0; PIECE];
            // What was cut in the middle ends like what was closed.
            while let Ok(read @ 1..) = from.read(&mut piece).await {
                let arrives = Instant::now() + delay;
                if leave.send((arrives, piece[..read].to_vec())).await.is_err() {
                    return;
                }
            }
        };
        Self {
            arriving,
            carrying: tokio::spawn(carry).abort_handle(),
        }
    }

    /// What arrives next; nothing, once the other side has closed.
    async fn read(&mut self) -> Option<Vec<u8>> {
        let (arrives, piece) = self.arriving.recv().await?;
        if arrives > Instant::now() {
            sleep_until(arrives).await;
        }
        Some(piece)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Link {
    /// Forwards what the client says. Returns the server's side if only the client's was cut.
    async fn forward_requests(
        &self,
        mut from_client: Way,
        mut to_server: OwnedWriteHalf,
    ) -> io::Result<Option<OwnedWriteHalf>> {
        let mut framer = Framer::of_client();
        let mut conversation = Conversation::default();
        while let Some(chunk) = from_client.read().await {
            self.pass().await?;
            framer.push(&chunk);
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
        Ok(None)
    }

    async fn cut_reply(&self, message: &Message, to_server: &mut OwnedWriteHalf) -> io::Result<()> {
        self.allowance
            .store(fastrand::usize(1..24), Ordering::SeqCst);
        to_server.write_all(&message.bytes).await
    }

    async fn forward_answers(
        &self,
        from_server: &mut Way,
        mut to_client: OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut framer = Framer::of_server();
        while let Some(chunk) = from_server.read().await {
            self.pass().await?;
            framer.push(&chunk);
            let read = chunk.len();
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
        Ok(())
    }

    /// Lets nothing through a black hole: what fell into it is lost, so the connection ends with it.
    async fn pass(&self) -> io::Result<()> {
        let mut frozen = self.frozen.clone();
        if !*frozen.borrow() {
            return Ok(());
        }
        let _proxy_gone = frozen.wait_for(|is_frozen| !is_frozen).await;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}
