//! A distance between the engine and its database: a proxy that holds every byte back for a while.
//!
//! Bytes travel while others are under way, as on a long line: the delay limits no throughput. It works
//! with threads, because the timer of the runtime is too coarse for a millisecond.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

/// How many pieces may be under way on one connection.
const UNDER_WAY: usize = 4_096;
/// How large a piece is at most.
const PIECE: usize = 64 * 1024;

/// A proxy; its threads end with the connections, and the one that accepts them with the program.
pub(super) struct Proxy {
    address: SocketAddr,
    upstream: String,
}

impl Proxy {
    /// Starts a proxy to the server of a Postgres URL, which is so far away in each direction.
    pub(super) fn start(url: &str, delay: Duration) -> anyhow::Result<Self> {
        let upstream = host(url).context("a URL without a host")?.to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let to = upstream.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // A connection that cannot be passed on is closed, which its user sees.
                let _closed = connect(near, &to, delay);
            }
        });
        Ok(Self { address, upstream })
    }

    /// The URL of a database by way of the proxy.
    pub(super) fn url(&self, url: &str) -> String {
        url.replacen(&self.upstream, &self.address.to_string(), 1)
    }
}

/// Host and port of a URL.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    Some(
        authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host),
    )
}

fn connect(near: TcpStream, upstream: &str, delay: Duration) -> std::io::Result<()> {
    let far = TcpStream::connect(upstream)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    carry(near.try_clone()?, far.try_clone()?, delay);
    carry(far, near, delay);
    Ok(())
}

/// Carries bytes one way until either end closes.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (depart, arrive) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if depart
                .send((Instant::now(), buffer[..length].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (departed, piece) in arrive {
            thread::sleep(delay.saturating_sub(departed.elapsed()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _already_closed = to.shutdown(Shutdown::Both);
    });
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_host_of_a_url_is_found() {
        let url = "postgres://user:p%40ss@127.0.0.1:5433/database?x=1";
        assert_eq!(host(url), Some("127.0.0.1:5433"));
        assert_eq!(host("postgres://localhost:1"), Some("localhost:1"));
        assert_eq!(host("nothing"), None);
    }
}
