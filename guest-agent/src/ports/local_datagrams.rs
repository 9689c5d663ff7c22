//! Datagrams of the machine itself to a published UDP port. Each sender has a session with a socket of its own to the
//! container.
//!
//! The table is bounded; a new session evicts the one that was idle longest. A container that does not listen only
//! loses the datagrams: its sessions stay for when it does.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// Sessions of one port at once, one descriptor each.
const MAX_SESSIONS: usize = 1024;
/// A session ends when no datagram has passed in either direction for this long.
const IDLE: Duration = Duration::from_mins(2);
/// Longest datagram of either version of IP.
const MAX_DATAGRAM_BYTES: usize = 65_527;

struct Session {
    container: Arc<UdpSocket>,
    used: Used,
    task: AbortHandle,
}

/// When a session was last used.
#[derive(Clone)]
struct Used(Arc<Mutex<Instant>>);

impl Used {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries datagrams from `port` to `target` and the answers back, until dropped.
pub(super) async fn serve(port: UdpSocket, target: SocketAddr) {
    let mut relay = Relay { port: Arc::new(port), target, sessions: HashMap::new(), tasks: JoinSet::new() };
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        tokio::select! {
            received = relay.port.recv_from(&mut buffer) => match received {
                Ok((length, client)) => {
                    if let Err(error) = relay.send(&buffer[..length], client).await {
                        debug!("a datagram from {client} to {target} is lost: {error}");
                    }
                }
                // The system's report on an answer that nobody received; reading it clears it.
                Err(error) => debug!("the port for {target}: {error}"),
            },
            Some(ended) = relay.tasks.join_next() => {
                if let Ok(client) = ended {
                    relay.forget(client);
                }
            }
        }
    }
}

struct Relay {
    port: Arc<UdpSocket>,
    target: SocketAddr,
    sessions: HashMap<SocketAddr, Session>,
    /// Each carries the answers of one session, and returns its client's address at the end of it.
    tasks: JoinSet<SocketAddr>,
}

impl Relay {
    async fn send(&mut self, datagram: &[u8], client: SocketAddr) -> io::Result<()> {
        let container = match self.sessions.get(&client) {
            Some(session) if !session.task.is_finished() => {
                session.used.touch();
                Arc::clone(&session.container)
            }
            _ => self.begin(client).await?,
        };
        match container.send(datagram).await {
            // The error is about an earlier datagram; this one was not sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => container.send(datagram).await.map(drop),
            other => other.map(drop),
        }
    }

    async fn begin(&mut self, client: SocketAddr) -> io::Result<Arc<UdpSocket>> {
        if self.sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = self.sessions.iter().min_by_key(|(_, session)| session.used.last())
        {
            let oldest = *oldest.0;
            self.end(oldest);
        }
        let any = if self.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let container = Arc::new(UdpSocket::bind(SocketAddr::new(any, 0)).await?);
        container.connect(self.target).await?;
        let used = Used::now();
        let answers = carry_answers(Arc::clone(&container), Arc::clone(&self.port), client, used.clone());
        let task = self.tasks.spawn(answers);
        self.sessions.insert(client, Session { container: Arc::clone(&container), used, task });
        Ok(container)
    }

    /// Removes a session that has ended, unless its client has begun another.
    fn forget(&mut self, client: SocketAddr) {
        if self.sessions.get(&client).is_some_and(|session| session.task.is_finished()) {
            self.sessions.remove(&client);
        }
    }

    fn end(&mut self, client: SocketAddr) {
        if let Some(session) = self.sessions.remove(&client) {
            session.task.abort();
        }
    }
}

/// Passes the container's answers on until the session was idle too long.
async fn carry_answers(container: Arc<UdpSocket>, port: Arc<UdpSocket>, client: SocketAddr, used: Used) -> SocketAddr {
    let mut buffer = Vec::with_capacity(MAX_DATAGRAM_BYTES);
    loop {
        let end = used.last() + IDLE;
        tokio::select! {
            received = container.recv_buf(&mut buffer) => {
                used.touch();
                let sent = match received {
                    Ok(_) => port.send_to(&buffer, client).await.map(drop),
                    // Nobody listens there, yet or any more.
                    Err(error) => Err(error),
                };
                if let Err(error) = sent {
                    debug!("an answer to {client} is lost: {error}");
                }
                buffer.clear();
            }
            () = sleep_until(end) => if used.last() + IDLE <= Instant::now() {
                return client;
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.unwrap()
    }

    /// A port in front of `target`, with the task that serves it.
    async fn port(target: SocketAddr) -> (SocketAddr, JoinSet<()>) {
        let port = socket().await;
        let address = port.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(port, target));
        (address, tasks)
    }

    async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        let (length, from) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        buffer.truncate(length);
        (buffer, from)
    }

    #[tokio::test]
    async fn each_sender_gets_its_own_answers_whole() {
        let container = socket().await;
        let (address, _tasks) = port(container.local_addr().unwrap()).await;
        let clients = [socket().await, socket().await];
        let mut froms = Vec::new();
        for (client, size) in clients.iter().zip([0, 65_507]) {
            client.send_to(&vec![7; size], address).await.unwrap();
            let (datagram, from) = receive(&container).await;
            assert_eq!(datagram.len(), size);
            froms.push(from);
        }
        assert_ne!(froms[0], froms[1]);
        for (client, from) in clients.iter().zip(froms).rev() {
            let answer = from.to_string();
            container.send_to(answer.as_bytes(), from).await.unwrap();
            assert_eq!(receive(client).await, (answer.into_bytes(), address));
        }
    }

    #[tokio::test]
    async fn a_container_that_does_not_listen_yet_is_reached_once_it_does() {
        let container = socket().await;
        let target = container.local_addr().unwrap();
        drop(container);
        let (address, _tasks) = port(target).await;
        let client = socket().await;
        let other = socket().await;
        for _ in 0..3 {
            client.send_to(b"lost", address).await.unwrap();
        }
        other.send_to(b"lost", address).await.unwrap();
        let container = UdpSocket::bind(target).await.unwrap();
        // Earlier datagrams may still be under way.
        let (_, from) = loop {
            client.send_to(b"heard", address).await.unwrap();
            if let Ok(received) = timeout(Duration::from_millis(50), receive(&container)).await {
                break received;
            }
        };
        container.send_to(b"answer", from).await.unwrap();
        receive(&client).await;
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_end_when_idle_and_are_bounded() {
        let container = socket().await;
        let (port, target) = (Arc::new(socket().await), container.local_addr().unwrap());
        let mut relay = Relay { port, target, sessions: HashMap::new(), tasks: JoinSet::new() };
        for number in 0..MAX_SESSIONS + 10 {
            let client = SocketAddr::from(([127, 0, 0, 1], 1000 + number as u16));
            relay.send(b"x", client).await.unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(relay.sessions.len(), MAX_SESSIONS);
        assert!(!relay.sessions.contains_key(&SocketAddr::from(([127, 0, 0, 1], 1009))), "the oldest are gone");
        // Evicted sessions end as aborted, the others by timeout.
        let ended = async { while relay.tasks.join_next().await.is_some() {} };
        timeout(IDLE * 3, ended).await.unwrap();
    }
}
