//! Socket calls on guest memory and on paths. None of them blocks.

use std::fs;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};

use crate::devices::span::Slice;

/// Most pieces of guest memory handed to one system call; the next call takes the rest.
const MAX_VECTORS: usize = 64;

/// Vectors for the first pieces of `pieces`, `limit` bytes at most, and their number.
fn vectors(pieces: &[Slice<'_>], limit: usize) -> ([libc::iovec; MAX_VECTORS], usize) {
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_VECTORS];
    let (mut count, mut left) = (0, limit);
    for (vector, piece) in vectors.iter_mut().zip(pieces) {
        if left == 0 {
            break;
        }
        vector.iov_base = piece.ptr_guard_mut().as_ptr().cast();
        vector.iov_len = piece.len().min(left);
        left -= vector.iov_len;
        count += 1;
    }
    (vectors, count)
}

/// A message that consists of `vectors`.
fn message(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: msghdr is plain data of which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    message
}

/// Reads up to `limit` bytes from `socket` into guest memory; 0 is the end of the stream.
pub(super) fn receive(socket: &UnixStream, pieces: &[Slice<'_>], limit: usize) -> io::Result<usize> {
    let (mut vectors, count) = vectors(pieces, limit);
    let mut message = message(&mut vectors[..count]);
    loop {
        // SAFETY: `message` names vectors on this stack, which point at pieces of guest memory that are mapped for as
        // long as `pieces` lives and lie within their length. The guest may write there at the same time; the kernel
        // copies, and no reference exists.
        let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
        match Errno::result(read) {
            Ok(bytes) => return Ok(bytes.cast_unsigned()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes guest memory to `socket`, as much as the socket takes now.
pub(super) fn send(socket: &UnixStream, pieces: &[Slice<'_>]) -> io::Result<usize> {
    let (mut vectors, count) = vectors(pieces, usize::MAX);
    let message = message(&mut vectors[..count]);
    loop {
        // SAFETY: `message` names vectors on this stack, which point at pieces of guest memory that are mapped for as
        // long as `pieces` lives and lie within their length. The guest may write there at the same time; the kernel
        // copies.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match Errno::result(sent) {
            Ok(bytes) => return Ok(bytes.cast_unsigned()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes `bytes` to `socket`, as much as the socket takes now.
pub(super) fn send_bytes(socket: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    retry(|| socket::send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))
}

/// Reads what `socket` has received, and leaves it there.
pub(super) fn peek(socket: &UnixStream, bytes: &mut [u8]) -> io::Result<usize> {
    retry(|| socket::recv(socket.as_raw_fd(), bytes, MsgFlags::MSG_PEEK))
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Connects to the Unix socket at `path` immediately or not at all: a full backlog is `WouldBlock`.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = new_socket()?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

/// Takes the next connection waiting at `listener`, nonblocking.
pub(super) fn accept(listener: &UnixListener) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: accept4 has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) }.into())
}

/// A listening Unix socket and its file, which is removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) listener: UnixListener,
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Listens at `path` with mode 0600. Replaces a socket file on which nobody listens any more, and leaves any other
    /// file alone.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = new_socket()?;
        // Before bind: Linux gives the file the socket's mode, so at no moment can others connect.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
        socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        socket::listen(&socket, Backlog::MAXCONN)?;
        let file = fs::symlink_metadata(path)?;
        Ok(Self { listener: socket.into(), path: path.to_owned(), device: file.dev(), inode: file.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Only our own file: another monitor may have replaced it.
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "cannot remove the socket file; the next start replaces it");
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is in the way"));
        }
        Ok(_) => {}
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // WouldBlock is a full backlog: somebody listens.
        Ok(_) => Err(Errno::EADDRINUSE.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Errno::EADDRINUSE.into()),
        Err(error) => Err(error),
    }
}
