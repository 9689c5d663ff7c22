//! The port proxies of dockerd: each is a connection to `ports.sock` that publishes one port while it is open.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tracing::{debug, warn};

use super::doors;
use super::local::{self, LocalListener};
use super::published::{Ports, Published};
use super::request::PublishRequest;

/// Where the agent listens for port proxies.
pub(crate) const SOCKET: &str = "/run/rorqual/ports.sock";
/// Longest request, in bytes; the port proxy has the same limit.
const MAX_REQUEST: usize = 1024;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves port proxies at `socket` forever.
///
/// # Errors
/// The socket cannot be made.
pub(crate) async fn serve(ports: Ports, socket: &Path) -> io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    loop {
        match listener.accept().await {
            Ok((proxy, _)) => {
                let ports = ports.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve_one(&ports, proxy).await {
                        debug!("a port proxy's connection failed: {error}");
                    }
                });
            }
            Err(error) => {
                warn!("cannot accept a port proxy: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Publishes one proxy's port for as long as its connection is open.
async fn serve_one(ports: &Ports, mut proxy: UnixStream) -> io::Result<()> {
    let published = match read_request(&proxy).await? {
        Ok((arguments, socket)) => publish(ports, &arguments, socket).await,
        Err(reason) => Err(reason),
    };
    let verdict = match &published {
        Ok(_) => "0\n".to_owned(),
        Err(reason) => format!("1\n{reason}"),
    };
    proxy.write_all(verdict.as_bytes()).await?;
    if let Ok((request, published, local)) = published {
        // The proxy sends nothing more, so the next thing to read is its end.
        let mut rest = [0; 64];
        let end = loop {
            match proxy.read(&mut rest).await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        // In this order: once the proxy sees the end of this connection, dockerd may bind the port again.
        drop(published);
        doors::close(ports.doors(), &request).await;
        local.close().await;
        end?;
    }
    Ok(())
}

/// Has the host listen, and serves dockerd's socket in the guest. Errors are for the user.
async fn publish(
    ports: &Ports,
    arguments: &[u8],
    socket: Option<OwnedFd>,
) -> Result<(PublishRequest, Published, LocalListener), String> {
    let request = PublishRequest::parse(arguments)?;
    let socket = socket.ok_or_else(|| "dockerd passed no socket to its port proxy".to_owned())?;
    // dockerd's rule for the port has asked the host already, unless the port needs no rule.
    let published = match ports.take_reserved(&request) {
        Some(published) => published,
        None => ports.publish(request.published_port()).await?,
    };
    let local = local::serve_locally(&request, socket)
        .map_err(|error| format!("the machine cannot serve {}:{}: {error}", request.host_address, request.host_port))?;
    doors::open(ports.doors(), &request).await;
    Ok((request, published, local))
}

/// A proxy's arguments without the final zero byte, and the socket that travels with them.
type Received = (Vec<u8>, Option<OwnedFd>);

/// Reads a proxy's request; the inner error is for the user.
async fn read_request(proxy: &UnixStream) -> io::Result<Result<Received, String>> {
    let (mut words, mut socket) = (Vec::new(), None);
    while words.len() <= MAX_REQUEST {
        let (length, passed) = receive(proxy, &mut words).await?;
        socket = passed.or(socket);
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = words.windows(2).position(|pair| pair == [0, 0]) {
            words.truncate(end + 1);
            return Ok(Ok((words, socket)));
        }
    }
    Ok(Err("the port proxy's request is too long".to_owned()))
}

/// Appends what has arrived to `words`, and returns its length and a descriptor that came with it.
async fn receive(proxy: &UnixStream, words: &mut Vec<u8>) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut buffer = [0; MAX_REQUEST];
    let (length, socket) = proxy
        .async_io(Interest::READABLE, || {
            let mut control = nix::cmsg_space!(RawFd);
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received =
                recvmsg::<()>(proxy.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
            let mut socket = None;
            for message in received.cmsgs()? {
                if let ControlMessageOwned::ScmRights(descriptors) = message {
                    for descriptor in descriptors {
                        // SAFETY: the kernel has just made the descriptor for this process, and nothing else owns it.
                        socket = Some(unsafe { OwnedFd::from_raw_fd(descriptor) });
                    }
                }
            }
            Ok((received.bytes, socket))
        })
        .await?;
    words.extend_from_slice(&buffer[..length]);
    Ok((length, socket))
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{ControlMessage, sendmsg};
    use rorqual_protocol::agent::port_change::Change;
    use rorqual_protocol::agent::published_port::Protocol;
    use rorqual_protocol::agent::{PortChange, PortVerdict};

    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::super::session::Session;
    use super::*;

    const REQUEST: &str = "proxy\0-proto\0tcp\0-host-ip\x00192.0.2.1\0-host-port\x008080\0-container-ip\x00172.17.0.2\0\
                           -container-port\x0080\0-use-listen-fd\0\0";

    fn proxy(ports: &Ports) -> BufReader<UnixStream> {
        let (proxy, agent) = UnixStream::pair().unwrap();
        let ports = ports.clone();
        tokio::spawn(async move { serve_one(&ports, agent).await });
        BufReader::new(proxy)
    }

    /// Sends a request as the port proxy does, with a listening socket.
    async fn ask(proxy: &mut BufReader<UnixStream>, request: &str) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = proxy.get_ref();
        proxy.writable().await.unwrap();
        let descriptors = [listener.as_raw_fd()];
        let passed = [ControlMessage::ScmRights(&descriptors)];
        let parts = [io::IoSlice::new(request.as_bytes())];
        let sent = sendmsg::<()>(proxy.as_raw_fd(), &parts, &passed, MsgFlags::empty(), None).unwrap();
        assert_eq!(sent, request.len());
    }

    /// Whether dockerd would learn that the port is bound.
    async fn bound(proxy: &mut BufReader<UnixStream>) -> bool {
        let mut line = String::new();
        proxy.read_line(&mut line).await.unwrap();
        line == "0\n"
    }

    /// The reason dockerd would get for a port that is not bound.
    async fn refusal(proxy: &mut BufReader<UnixStream>) -> String {
        let mut text = String::new();
        proxy.read_to_string(&mut text).await.unwrap();
        text.strip_prefix("1\n").unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_port_opens_with_its_proxy_and_closes_with_it() {
        let ports = Ports::default();
        let (host, mut changes) = Session::connect(ports.clone());
        assert_eq!(changes.recv().await.unwrap().change, Some(Change::Synchronized(true)));

        let mut connection = proxy(&ports);
        ask(&mut connection, REQUEST).await;
        let opened = changes.recv().await.unwrap();
        let Some(Change::Open(port)) = opened.change else { panic!("{opened:?}") };
        assert_eq!((port.host_address.as_str(), port.host_port, port.container_port), ("192.0.2.1", 8080, 80));
        assert_eq!(port.protocol(), Protocol::Tcp);
        host.verdict(PortVerdict { id: opened.id, bound: true, reason: String::new() });
        assert!(bound(&mut connection).await);

        drop(connection);
        let closed = changes.recv().await.unwrap();
        assert_eq!(closed, PortChange { id: opened.id, change: Some(Change::Close(true)) });
    }

    #[tokio::test]
    async fn a_port_the_host_was_asked_for_before_is_taken_over_and_not_asked_for_again() {
        let ports = Ports::default();
        let request = PublishRequest::parse(REQUEST.trim_end_matches('\0').as_bytes()).unwrap();
        ports.reserve(&request).await.unwrap();
        let (_host, mut changes) = Session::connect(ports.clone());
        let opened = changes.recv().await.unwrap();
        assert!(matches!(opened.change, Some(Change::Open(_))), "{opened:?}");
        assert_eq!(changes.recv().await.unwrap().change, Some(Change::Synchronized(true)));
        let mut connection = proxy(&ports);
        ask(&mut connection, REQUEST).await;
        assert!(bound(&mut connection).await);
        // The port is the proxy's now, so dockerd's deletion of its rule does not close it.
        ports.release_reserved(&request);
        drop(connection);
        assert_eq!(changes.recv().await.unwrap(), PortChange { id: opened.id, change: Some(Change::Close(true)) });
    }

    #[tokio::test]
    async fn a_refusal_carries_the_hosts_reason_and_ends_the_connection() {
        let ports = Ports::default();
        let (host, mut changes) = Session::connect(ports.clone());
        changes.recv().await.unwrap();
        let mut connection = proxy(&ports);
        ask(&mut connection, REQUEST).await;
        let id = changes.recv().await.unwrap().id;
        host.verdict(PortVerdict { id, bound: false, reason: "address already in use: nginx".to_owned() });
        assert_eq!(refusal(&mut connection).await, "address already in use: nginx");
        assert_eq!(changes.recv().await.unwrap().change, Some(Change::Close(true)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_never_answers_fails_the_port() {
        let ports = Ports::default();
        let (_host, mut changes) = Session::connect(ports.clone());
        let mut connection = proxy(&ports);
        ask(&mut connection, REQUEST).await;
        let refusal = refusal(&mut connection).await;
        assert!(refusal.contains("192.0.2.1:8080"), "{refusal}");
        let told: Vec<_> = [changes.recv().await, changes.recv().await, changes.recv().await]
            .into_iter()
            .map(|change| change.unwrap().change.unwrap())
            .collect();
        assert!(matches!(told[..], [Change::Synchronized(_), Change::Open(_), Change::Close(_)]), "{told:?}");
    }

    #[tokio::test]
    async fn a_new_call_ends_the_one_before() {
        let ports = Ports::default();
        let (_old, mut old_changes) = Session::connect(ports.clone());
        let (_new, _new_changes) = Session::connect(ports.clone());
        assert!(old_changes.recv().await.is_some());
        assert!(old_changes.recv().await.is_none());
    }

    #[tokio::test]
    async fn an_invalid_request_is_answered_with_the_reason() {
        let mut connection = proxy(&Ports::default());
        ask(&mut connection, &REQUEST.replace("tcp", "sctp")).await;
        let refusal = refusal(&mut connection).await;
        assert!(refusal.contains("sctp"), "{refusal}");
    }

    #[tokio::test]
    async fn a_request_without_end_is_refused_and_one_cut_short_is_not_answered() {
        let mut endless = proxy(&Ports::default());
        ask(&mut endless, &"argument\0".repeat(200)).await;
        assert!(refusal(&mut endless).await.contains("too long"));
        let mut cut = proxy(&Ports::default());
        ask(&mut cut, "proxy\0").await;
        cut.shutdown().await.unwrap();
        assert_eq!(cut.read(&mut [0]).await.unwrap(), 0);
    }
}
