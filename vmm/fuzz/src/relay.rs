//! The relay between a guest kernel and a vhost-user backend: whatever both send, it ends, and passes on no more than
//! it received.

use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rorqual_vmm::attachment::notice::ConfigurationNotice;
use rorqual_vmm::attachment::relay::relay;

use crate::program::Program;

/// Below a socket's buffer: both sides are written before the relay runs.
const MAX_BYTES: usize = 64 * 1024;

pub(crate) fn run(program: &[u8]) {
    let mut program = Program::new(program);
    let (guest, frontend) = UnixStream::pair().unwrap();
    let (backend, device) = UnixStream::pair().unwrap();
    let spare: Vec<OwnedFd> = {
        let (one, other) = UnixStream::pair().unwrap();
        vec![one.into(), other.into()]
    };
    let (mut sent, mut answered) = (0, 0);
    while !program.ended() && sent < MAX_BYTES && answered < MAX_BYTES {
        match program.byte() {
            0..=47 => {
                let count = program.below(256);
                answered += (&device).write(program.bytes(count)).unwrap();
            }
            choice => {
                let message = message(&mut program);
                let descriptors: Vec<RawFd> = spare
                    .iter()
                    .cycle()
                    .take(if choice < 160 { 0 } else { usize::from(choice) % 10 })
                    .map(AsRawFd::as_raw_fd)
                    .collect();
                // In two pieces, as a stream may deliver them.
                let (first, second) = message.split_at(program.below(256).min(message.len()));
                let rights = [ControlMessage::ScmRights(&descriptors)];
                let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
                for (piece, rights) in [(first, rights), (second, &[][..])] {
                    if !piece.is_empty() {
                        sent +=
                            sendmsg::<()>(guest.as_raw_fd(), &[IoSlice::new(piece)], rights, MsgFlags::empty(), None)
                                .unwrap();
                    }
                }
            }
        }
    }
    guest.shutdown(Shutdown::Write).unwrap();
    let notice = ConfigurationNotice::default();
    let _ = relay(&frontend, &backend, &notice);
    drop(spare);
    // The channel is one of ours or none; its other end may be gone.
    let _ = notice.configuration_changed();
    drop((frontend, backend));
    let read = |mut from: &UnixStream| {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        all.len()
    };
    assert!(read(&device) <= sent, "the relay made bytes up");
    assert!(read(&guest) <= answered, "the relay made answers up");
}

/// A message: mostly with a true length, sometimes a memory table.
fn message(program: &mut Program) -> Vec<u8> {
    let request = match program.byte() {
        0..=99 => 5,
        100..=149 => 13,
        150..=199 => 21,
        _ => program.word(),
    };
    let count = program.below(256);
    let mut payload = program.bytes(count).to_vec();
    if request == 5 && program.flag() {
        let regions = u32::from(program.byte() & 15);
        payload.splice(..payload.len().min(4), regions.to_le_bytes());
    }
    let claimed = if program.byte() < 230 { payload.len() as u32 } else { program.length() };
    let mut message = Vec::new();
    message.extend(u32::to_ne_bytes(request));
    message.extend(1u32.to_ne_bytes());
    message.extend(claimed.to_ne_bytes());
    message.extend(payload);
    message
}
