//! The relay between User Mode Linux and a vhost-user backend.
//!
//! UML's driver sends `SET_MEM_TABLE` with room for two regions whatever their number; backends that check lengths
//! refuse it. The relay cuts that message to its `8 + 32 * regions` bytes and passes everything else on, descriptors
//! included. It keeps a duplicate of the backend request channel, which notifies the guest that a configuration
//! changed. It makes the call descriptors non-blocking, so that a guest that takes no interrupts cannot hold a device's
//! thread.
//!
//! Another program's backend may lack that channel, without which UML has no interrupt for the device.
//! [`relay_foreign`] offers a channel in its place that carries nothing.
//!
//! One thread per device runs [`relay`] until one side hangs up.

use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use thiserror::Error;
use tracing::warn;

use super::notice::ConfigurationNotice;
use crate::descriptors;

/// Header of every message: request, flags and payload size, 32 bits each (vhost-user, "Message format").
const HEADER_BYTES: usize = 12;
/// Longest payload in bytes; the protocol has no longer message.
const MAX_PAYLOAD_BYTES: usize = 4096;
/// Most descriptors one message may carry (`VHOST_MEMORY_BASELINE_NREGIONS`).
const MAX_DESCRIPTORS: usize = 8;
const SET_MEM_TABLE: u32 = 5;
const GET_PROTOCOL_FEATURES: u32 = 15;
const SET_PROTOCOL_FEATURES: u32 = 16;
/// The backend may send requests of its own over a channel (`VHOST_USER_PROTOCOL_F_BACKEND_REQ`).
const PROTOCOL_BACKEND_REQ: u32 = 1 << 5;
const SET_VRING_CALL: u32 = 13;
const SET_BACKEND_REQ_FD: u32 = 21;
/// Version 1, no reply asked for.
const FLAGS_VERSION_1: u32 = 1;
/// The sender wants an answer (bit 3); this message is one (bit 2).
const FLAG_NEED_REPLY: u32 = 1 << 3;
const FLAG_REPLY: u32 = 1 << 2;
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

/// Keeps a duplicate of the backend request channel as the way to notify the guest of a changed configuration.
fn keep(notice: &ConfigurationNotice, descriptor: &OwnedFd) -> io::Result<()> {
    let mut channel = UnixStream::from(descriptor.try_clone()?);
    notice.set(move || channel.write_all(&header(BACKEND_CONFIG_CHANGE, FLAGS_VERSION_1, 0)));
    Ok(())
}

/// Carries messages between `frontend` (the guest kernel) and `backend` until one of them hangs up.
pub fn relay(frontend: &UnixStream, backend: &UnixStream, channel: &ConfigurationNotice) -> Result<(), RelayError> {
    carry(frontend, backend, &mut Requests::WithChannel(channel))
}

/// The same for a `backend` that may lack a backend request channel. The guest cannot be notified of a changed
/// configuration.
pub fn relay_foreign(frontend: &UnixStream, backend: &UnixStream) -> Result<(), RelayError> {
    carry(frontend, backend, &mut Requests::OfForeign { channel_offered: false, channel: Vec::new() })
}

/// What happens to the backend request channel.
enum Requests<'a> {
    /// The backend has it, and we keep a duplicate.
    WithChannel(&'a ConfigurationNotice),
    /// The backend may lack it. Then the relay offers it and keeps the frontend's descriptors: the frontend takes a
    /// closed channel for a lost device.
    OfForeign { channel_offered: bool, channel: Vec<OwnedFd> },
}

fn carry(frontend: &UnixStream, backend: &UnixStream, requests: &mut Requests<'_>) -> Result<(), RelayError> {
    loop {
        let mut waiting =
            [PollFd::new(frontend.as_fd(), PollFlags::POLLIN), PollFd::new(backend.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let [from_frontend, from_backend] = waiting.map(|entry| entry.any().unwrap_or(false));
        if from_frontend && !pass_request(frontend, backend, requests)? {
            return Ok(());
        }
        if from_backend && !pass_answer(backend, frontend, requests)? {
            return Ok(());
        }
    }
}

/// A message and what came with it.
type Message = (Vec<u8>, Vec<OwnedFd>);

/// Reads one whole message; nothing at the end.
fn read_message(from: &UnixStream) -> Result<Option<Message>, RelayError> {
    let mut message = vec![0; HEADER_BYTES];
    let mut descriptors = Vec::new();
    if !fill(from, &mut message, &mut descriptors)? {
        return Ok(None);
    }
    let size = word(&message, 8) as usize;
    if size > MAX_PAYLOAD_BYTES {
        return Err(RelayError::Invalid("its payload is too long"));
    }
    message.resize(HEADER_BYTES + size, 0);
    if size > 0 && !fill(from, &mut message[HEADER_BYTES..], &mut descriptors)? {
        return Err(RelayError::Invalid("it ends in the middle"));
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(RelayError::Invalid("it carries too many descriptors"));
    }
    Ok(Some((message, descriptors)))
}

/// Passes one message of the frontend on; false at its end.
fn pass_request(from: &UnixStream, to: &UnixStream, requests: &mut Requests<'_>) -> Result<bool, RelayError> {
    let Some((mut message, descriptors)) = read_message(from)? else { return Ok(false) };
    let (request, flags) = (word(&message, 0), word(&message, 4));
    match request {
        SET_PROTOCOL_FEATURES if requests.stand_in() && message.len() >= HEADER_BYTES + 4 => {
            let wanted = word(&message, HEADER_BYTES) & !PROTOCOL_BACKEND_REQ;
            message[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&wanted.to_ne_bytes());
        }
        SET_BACKEND_REQ_FD if requests.stand_in() => {
            requests.keep(descriptors);
            if flags & FLAG_NEED_REPLY != 0 {
                let mut answer = header(SET_BACKEND_REQ_FD, FLAGS_VERSION_1 | FLAG_REPLY, 8).to_vec();
                answer.extend(0_u64.to_ne_bytes());
                send(from, &answer, &[])?;
            }
            return Ok(true);
        }
        SET_MEM_TABLE => cut_memory_table(&mut message, flags)?,
        SET_VRING_CALL => {
            for descriptor in &descriptors {
                set_nonblocking(descriptor.as_fd())?;
            }
        }
        SET_BACKEND_REQ_FD => {
            if let (Requests::WithChannel(channel), Some(descriptor)) = (requests, descriptors.first()) {
                keep(channel, descriptor)?;
            }
        }
        _ => {}
    }
    send(to, &message, &descriptors)?;
    Ok(true)
}

/// Passes on what the backend sends; false at its end. The bytes are only parsed if the backend may lack the channel.
fn pass_answer(from: &UnixStream, to: &UnixStream, requests: &mut Requests<'_>) -> Result<bool, RelayError> {
    if let Requests::OfForeign { channel_offered, .. } = requests {
        let Some((mut message, descriptors)) = read_message(from)? else { return Ok(false) };
        if word(&message, 0) == GET_PROTOCOL_FEATURES && message.len() >= HEADER_BYTES + 4 {
            let offered = word(&message, HEADER_BYTES);
            *channel_offered = offered & PROTOCOL_BACKEND_REQ == 0;
            message[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&(offered | PROTOCOL_BACKEND_REQ).to_ne_bytes());
        }
        send(to, &message, &descriptors)?;
        return Ok(true);
    }
    let mut bytes = [0; MAX_PAYLOAD_BYTES];
    let mut descriptors = Vec::new();
    let length = receive(from, &mut bytes, &mut descriptors)?;
    if length > 0 {
        send(to, &bytes[..length], &descriptors)?;
    }
    Ok(length > 0)
}

impl Requests<'_> {
    /// Whether the relay replaces the backend's channel.
    fn stand_in(&self) -> bool {
        matches!(self, Self::OfForeign { channel_offered: true, .. })
    }

    fn keep(&mut self, descriptors: Vec<OwnedFd>) {
        if let Self::OfForeign { channel, .. } = self {
            *channel = descriptors;
        }
    }
}

fn cut_memory_table(message: &mut Vec<u8>, flags: u32) -> Result<(), RelayError> {
    let payload = message.len() - HEADER_BYTES;
    if payload < 8 {
        return Err(RelayError::Invalid("its memory table has no count"));
    }
    let regions = word(message, HEADER_BYTES) as usize;
    if regions > MAX_DESCRIPTORS || payload < 8 + 32 * regions {
        return Err(RelayError::Invalid("its memory table is shorter than its count"));
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
    match descriptors::receive::<MAX_DESCRIPTORS>(from, bytes, descriptors) {
        Ok(received) => {
            if received.truncated {
                warn!("a vhost-user message carried more descriptors than the protocol allows");
            }
            Ok(received.bytes)
        }
        // The guest kernel was killed before it read all our bytes.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
        Err(error) => Err(error),
    }
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

    /// A relay between two socket pairs: the guest kernel's end, the backend's end, the channel that it keeps.
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
        // In pieces, as a stream socket may deliver the message.
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
    fn a_foreign_backend_without_a_channel_is_given_one_that_it_does_not_hear_of() {
        let (guest, frontend) = UnixStream::pair().unwrap();
        let (backend, device) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || relay_foreign(&frontend, &backend));
        let mut received = vec![0; HEADER_BYTES + 8];
        let mut read = |from: &UnixStream| {
            assert!(fill(from, &mut received, &mut Vec::new()).unwrap());
            (word(&received, 0), word(&received, 4), word(&received, HEADER_BYTES))
        };
        send(&device, &message(GET_PROTOCOL_FEATURES, &8_u64.to_ne_bytes()), &[]).unwrap();
        assert_eq!(read(&guest), (GET_PROTOCOL_FEATURES, 1, 8 | PROTOCOL_BACKEND_REQ));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let request = header(SET_BACKEND_REQ_FD, FLAGS_VERSION_1 | FLAG_NEED_REPLY, 0);
        send(&guest, &request, &[OwnedFd::from(theirs)]).unwrap();
        assert_eq!(read(&guest), (SET_BACKEND_REQ_FD, FLAGS_VERSION_1 | FLAG_REPLY, 0));
        let wanted = u64::from(8 | PROTOCOL_BACKEND_REQ);
        send(&guest, &message(SET_PROTOCOL_FEATURES, &wanted.to_ne_bytes()), &[]).unwrap();
        assert_eq!(read(&device), (SET_PROTOCOL_FEATURES, 1, 8));
        ours.set_nonblocking(true).unwrap();
        assert_eq!((&ours).read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "the channel stays open");
        drop(guest);
        assert!(thread.join().unwrap().is_ok());
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
