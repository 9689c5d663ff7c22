//! The relay between User Mode Linux and a vhost-user backend.
//!
//! UML's driver sends `SET_MEM_TABLE` with room for two regions whatever their number; backends that check lengths refuse
//! it. The relay cuts that message to its `8 + 32 * regions` bytes and passes everything else on, descriptors included.
//! It also keeps a duplicate of the backend request channel, by which the guest is told that a configuration changed, and
//! makes the call descriptors non-blocking, so that a guest that takes no interrupts cannot hold a device's thread.
//!
//! One thread per device runs [`relay`] until one side hangs up.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use thiserror::Error;
use tracing::warn;

use super::notice::ConfigurationNotice;

/// Header of every message: request, flags and payload size, 32 bits each (vhost-user, "Message format").
const HEADER_BYTES: usize = 12;
/// No message of the protocol is larger; what says so is not one.
const PAYLOAD_BYTES_MAX: usize = 4096;
/// Most descriptors one message may carry (`VHOST_MEMORY_BASELINE_NREGIONS`).
const DESCRIPTORS_MAX: usize = 8;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_CALL: u32 = 13;
const SET_BACKEND_REQ_FD: u32 = 21;
/// Version 1, no reply asked for.
const FLAGS_VERSION_1: u32 = 1;
const BACKEND_CONFIG_CHANGE: u32 = 2;

/// Why a relay ended early.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A message breaks the protocol.
    #[error("the guest kernel sent an invalid vhost-user message: {0}")]
    Invalid(&'static str),
    /// A socket failed.
    #[error("the vhost-user connection failed: {0}")]
    Socket(#[from] io::Error),
}

/// Keeps a duplicate of the backend request channel as the way to tell the guest of a changed configuration.
fn keep(notice: &ConfigurationNotice, descriptor: &OwnedFd) -> io::Result<()> {
    let mut channel = UnixStream::from(descriptor.try_clone()?);
    notice.set(move || channel.write_all(&header(BACKEND_CONFIG_CHANGE, FLAGS_VERSION_1, 0)));
    Ok(())
}

/// Carries messages between `frontend` (the guest kernel) and `backend` until one of them hangs up.
pub fn relay(frontend: &UnixStream, backend: &UnixStream, channel: &ConfigurationNotice) -> Result<(), RelayError> {
    loop {
        let mut waiting =
            [PollFd::new(frontend.as_fd(), PollFlags::POLLIN), PollFd::new(backend.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let [from_frontend, from_backend] = waiting.map(|entry| entry.any().unwrap_or(false));
        if from_frontend && !pass_request(frontend, backend, channel)? {
            return Ok(());
        }
        if from_backend && !pass_answer(backend, frontend)? {
            return Ok(());
        }
    }
}

/// Passes one message of the frontend on; false at its end.
fn pass_request(from: &UnixStream, to: &UnixStream, channel: &ConfigurationNotice) -> Result<bool, RelayError> {
    let mut message = vec![0; HEADER_BYTES];
    let mut descriptors = Vec::new();
    if !fill(from, &mut message, &mut descriptors)? {
        return Ok(false);
    }
    let (request, flags, size) = (word(&message, 0), word(&message, 4), word(&message, 8) as usize);
    if size > PAYLOAD_BYTES_MAX {
        return Err(RelayError::Invalid("its payload is too long"));
    }
    message.resize(HEADER_BYTES + size, 0);
    if size > 0 && !fill(from, &mut message[HEADER_BYTES..], &mut descriptors)? {
        return Err(RelayError::Invalid("it ends in the middle"));
    }
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(RelayError::Invalid("it carries too many descriptors"));
    }
    match request {
        SET_MEM_TABLE => cut_memory_table(&mut message, flags)?,
        SET_VRING_CALL => {
            for descriptor in &descriptors {
                set_nonblocking(descriptor.as_fd())?;
            }
        }
        SET_BACKEND_REQ_FD => {
            if let Some(descriptor) = descriptors.first() {
                keep(channel, descriptor)?;
            }
        }
        _ => {}
    }
    send(to, &message, &descriptors)?;
    Ok(true)
}

/// Passes on what the backend says; false at its end. Its bytes need no understanding.
fn pass_answer(from: &UnixStream, to: &UnixStream) -> Result<bool, RelayError> {
    let mut bytes = [0; PAYLOAD_BYTES_MAX];
    let mut descriptors = Vec::new();
    let length = receive(from, &mut bytes, &mut descriptors)?;
    if length > 0 {
        send(to, &bytes[..length], &descriptors)?;
    }
    Ok(length > 0)
}

fn cut_memory_table(message: &mut Vec<u8>, flags: u32) -> Result<(), RelayError> {
    let payload = message.len() - HEADER_BYTES;
    if payload < 8 {
        return Err(RelayError::Invalid("its memory table has no count"));
    }
    let regions = word(message, HEADER_BYTES) as usize;
    if regions > DESCRIPTORS_MAX || payload < 8 + 32 * regions {
        return Err(RelayError::Invalid("its memory table is shorter than it says"));
    }
    let exact = 8 + 32 * regions;
    message.truncate(HEADER_BYTES + exact);
    message[..HEADER_BYTES].copy_from_slice(&header(SET_MEM_TABLE, flags, exact as u32));
    Ok(())
}

fn header(request: u32, flags: u32, size: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&request.to_ne_bytes());
    bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..].copy_from_slice(&size.to_ne_bytes());
    bytes
}

fn word(message: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&message[at..at + 4]);
    u32::from_ne_bytes(bytes)
}

fn set_nonblocking(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    fcntl(descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Reads exactly `bytes`; false when the other side ended before the first of them.
fn fill(from: &UnixStream, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<bool, RelayError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match receive(from, &mut bytes[filled..], descriptors)? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(RelayError::Invalid("it ends in the middle")),
            length => filled += length,
        }
    }
    Ok(true)
}

fn receive(from: &UnixStream, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut vectors = [IoSliceMut::new(bytes)];
    let message = loop {
        match recvmsg::<()>(from.as_raw_fd(), &mut vectors, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(message) => break message,
            Err(Errno::EINTR) => {}
            // The guest kernel was killed with bytes of ours unread.
            Err(Errno::ECONNRESET) => return Ok(0),
            Err(errno) => return Err(errno.into()),
        }
    };
    for entry in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = entry {
            // SAFETY: the kernel has just installed these descriptors for this message, and nothing else owns them.
            descriptors.extend(received.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        warn!("a vhost-user message carried more descriptors than the protocol allows");
    }
    Ok(message.bytes)
}

/// Sends all of `bytes`, the descriptors with the first of them.
fn send(to: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let mut rights = Vec::new();
    if !raw.is_empty() {
        rights.push(ControlMessage::ScmRights(&raw));
    }
    let sent = loop {
        match sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => break sent,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut to = to;
    to.write_all(&bytes[sent..])
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A relay between two socket pairs: the guest kernel's end, the backend's end, the channel it keeps.
    fn relayed()
    -> (UnixStream, UnixStream, std::sync::Arc<ConfigurationNotice>, std::thread::JoinHandle<Result<(), RelayError>>)
    {
        let (guest, frontend) = UnixStream::pair().unwrap();
        let (backend, device) = UnixStream::pair().unwrap();
        let channel = std::sync::Arc::new(ConfigurationNotice::default());
        let kept = channel.clone();
        let thread = std::thread::spawn(move || relay(&frontend, &backend, &kept));
        (guest, device, channel, thread)
    }

    fn message(request: u32, payload: &[u8]) -> Vec<u8> {
        let mut message = header(request, FLAGS_VERSION_1, payload.len() as u32).to_vec();
        message.extend(payload);
        message
    }

    #[test]
    fn a_memory_table_is_cut_to_its_regions_and_keeps_its_descriptors() {
        let (guest, device, _, _thread) = relayed();
        let mut payload = vec![0; 72];
        payload[..4].copy_from_slice(&1u32.to_ne_bytes());
        payload[8..40].fill(7);
        let (_reader, writer) = io::pipe().unwrap();
        send(&guest, &message(SET_MEM_TABLE, &payload), &[OwnedFd::from(writer)]).unwrap();

        let mut received = vec![0; HEADER_BYTES + 40];
        let mut descriptors = Vec::new();
        assert!(fill(&device, &mut received, &mut descriptors).unwrap());
        assert_eq!(word(&received, 8), 40);
        assert_eq!(received[HEADER_BYTES + 8..], [7; 32]);
        assert_eq!(descriptors.len(), 1);
        drop(guest);
        let mut rest = Vec::new();
        (&device).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }

    #[test]
    fn a_memory_table_shorter_than_it_says_ends_the_relay() {
        let (guest, _device, _, thread) = relayed();
        let mut payload = vec![0; 40];
        payload[..4].copy_from_slice(&2u32.to_ne_bytes());
        send(&guest, &message(SET_MEM_TABLE, &payload), &[]).unwrap();
        assert!(matches!(thread.join().unwrap(), Err(RelayError::Invalid(_))));
    }

    #[test]
    fn a_message_with_an_absurd_length_ends_the_relay() {
        let (guest, _device, _, thread) = relayed();
        send(&guest, &header(1, FLAGS_VERSION_1, u32::MAX), &[]).unwrap();
        assert!(matches!(thread.join().unwrap(), Err(RelayError::Invalid(_))));
    }

    #[test]
    fn a_message_that_gathers_descriptors_byte_by_byte_ends_the_relay() {
        let (guest, _device, _, thread) = relayed();
        let (_reader, writer) = io::pipe().unwrap();
        let descriptors = [OwnedFd::from(writer)];
        for byte in message(1, &[0; 20]) {
            // The relay may have ended.
            let _ = send(&guest, &[byte], &descriptors);
        }
        assert!(matches!(thread.join().unwrap(), Err(RelayError::Invalid(_))));
    }

    #[test]
    fn other_messages_and_answers_pass_unchanged() {
        let (guest, device, _, thread) = relayed();
        let sent = message(1, &[1, 2, 3, 4, 5, 6, 7, 8]);
        // In pieces, as a stream socket may deliver it.
        send(&guest, &sent[..5], &[]).unwrap();
        send(&guest, &sent[5..], &[]).unwrap();
        let mut received = vec![0; sent.len()];
        assert!(fill(&device, &mut received, &mut Vec::new()).unwrap());
        assert_eq!(received, sent);
        send(&device, &sent, &[]).unwrap();
        assert!(fill(&guest, &mut received, &mut Vec::new()).unwrap());
        assert_eq!(received, sent);
        drop(guest);
        assert!(thread.join().unwrap().is_ok());
    }

    #[test]
    fn the_guest_hears_of_a_changed_configuration_over_the_channel_it_gave() {
        let (guest, device, channel, _thread) = relayed();
        assert!(!channel.configuration_changed().unwrap());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let sent = message(SET_BACKEND_REQ_FD, &[]);
        send(&guest, &sent, &[OwnedFd::from(theirs)]).unwrap();
        let mut received = vec![0; sent.len()];
        let mut descriptors = Vec::new();
        assert!(fill(&device, &mut received, &mut descriptors).unwrap());
        assert_eq!(descriptors.len(), 1);
        assert!(channel.configuration_changed().unwrap());
        let mut told = [0; HEADER_BYTES];
        ours.read_exact(&mut told).unwrap();
        assert_eq!((word(&told, 0), word(&told, 4), word(&told, 8)), (BACKEND_CONFIG_CHANGE, 1, 0));
    }

    #[test]
    fn call_descriptors_become_nonblocking() {
        let (guest, device, _, _thread) = relayed();
        let (_reader, writer) = io::pipe().unwrap();
        let sent = message(SET_VRING_CALL, &0u64.to_ne_bytes());
        send(&guest, &sent, &[OwnedFd::from(writer)]).unwrap();
        let mut received = vec![0; sent.len()];
        let mut descriptors = Vec::new();
        assert!(fill(&device, &mut received, &mut descriptors).unwrap());
        let flags = OFlag::from_bits_retain(fcntl(&descriptors[0], FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_NONBLOCK));
    }
}
