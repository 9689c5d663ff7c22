//! What the driver asks for by the control queue (virtio 1.3 §5.1.6.5): how many pairs of queues it uses.

use vm_memory::Bytes;

use crate::devices::queue::{Malformed, Slice};

/// A command is its class and its number.
const HEADER_BYTES: usize = 2;
/// `VIRTIO_NET_CTRL_MQ`, `VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET`.
const USE_PAIRS: [u8; HEADER_BYTES] = [4, 0];
/// Longest command that is looked at.
const COMMAND_BYTES: usize = HEADER_BYTES + 2;
/// Answers: done, and not possible.
const OK: u8 = 0;
const ERROR: u8 = 1;

/// Reads the command in `pieces`, all of which the driver wrote: how many pairs are to be used. None when it is another command, or asks for none
/// or for more than `most`.
pub(super) fn pairs_asked_for(pieces: &[Slice<'_>], most: usize) -> Result<Option<usize>, Malformed> {
    let (mut command, mut filled) = ([0; COMMAND_BYTES], 0);
    for piece in pieces {
        let part = &mut command[filled..][..piece.len().min(COMMAND_BYTES - filled)];
        piece.read_slice(part, 0).map_err(|error| Malformed(format!("a command: {error}")))?;
        filled += part.len();
    }
    let pairs = usize::from(u16::from_le_bytes([command[2], command[3]]));
    let known = filled == COMMAND_BYTES && command[..HEADER_BYTES] == USE_PAIRS;
    Ok((known && (1..=most).contains(&pairs)).then_some(pairs))
}

/// Answers a command.
pub(super) fn answer(place: &Slice<'_>, done: bool) -> Result<(), Malformed> {
    place.write_obj(if done { OK } else { ERROR }, 0).map_err(|error| Malformed(format!("an answer: {error}")))
}
