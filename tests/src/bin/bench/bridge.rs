//! A Unix socket that leads to a guest's vsock port, by the hybrid convention (docs/contracts.md, "State directory").

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, bail};

/// The guest's Docker socket.
const DOCKER_PORT: u32 = 2375;

/// Listens at `socket` until the benchmark ends; each connection leads to the guest behind the vsock socket `guest`.
pub(crate) fn lead_to_docker(socket: &Path, guest: PathBuf) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let guest = guest.clone();
            thread::spawn(move || {
                if let Err(error) = open(&guest).and_then(|engine| relay(&client, &engine)) {
                    eprintln!("bench: the way to the guest's Docker socket: {error:#}");
                }
            });
        }
    });
    Ok(())
}

/// A stream to the guest's Docker socket.
fn open(guest: &Path) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(guest).with_context(|| format!("cannot connect to {}", guest.display()))?;
    writeln!(stream, "CONNECT {DOCKER_PORT}")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\n") {
        if stream.read(&mut byte)? == 0 {
            bail!("the guest does not listen on vsock port {DOCKER_PORT}");
        }
        answer.push(byte[0]);
    }
    if answer.starts_with(b"OK ") { Ok(stream) } else { bail!("answered {:?}", String::from_utf8_lossy(&answer)) }
}

/// Copies bytes both ways until both have ended; passes the end of one direction on.
fn relay(client: &UnixStream, engine: &UnixStream) -> Result<()> {
    let (from_client, to_engine) = (client.try_clone()?, engine.try_clone()?);
    let up = thread::spawn(move || carry(&from_client, &to_engine));
    carry(engine, client);
    up.join().ok();
    Ok(())
}

/// Copies one direction. If a side goes away, the shutdown informs the other.
fn carry(mut from: &UnixStream, mut to: &UnixStream) {
    if io::copy(&mut from, &mut to).is_err() {
        from.shutdown(Shutdown::Read).ok();
    }
    to.shutdown(Shutdown::Write).ok();
}
