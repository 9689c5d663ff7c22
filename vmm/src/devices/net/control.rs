//! What the driver asks for by the control queue (virtio 1.3 §5.1.6.5): the number of pairs of queues it uses.

use vm_memory::{Bytes, GuestMemoryMmap};

use crate::devices::chain::{Chain, Malformed, request};
use crate::devices::span::Span;

/// A command begins with its class and its number.
const HEADER_BYTES: usize = 2;
/// `VIRTIO_NET_CTRL_MQ`, `VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET`.
const USE_PAIRS: [u8; HEADER_BYTES] = [4, 0];
/// Bytes of the only command that is known.
const COMMAND_BYTES: usize = HEADER_BYTES + 2;
/// Answers: the device has done it, or cannot.
const OK: u8 = 0;
const ERROR: u8 = 1;

/// Answers the command in `chain`. Returns the number of pairs to use from now on; None if it is another command, or if
/// `possible` denies that number.
pub(super) fn answer(
    memory: &GuestMemoryMmap,
    chain: Chain<'_>,
    possible: impl FnOnce(usize) -> bool,
) -> Result<Option<usize>, Malformed> {
    let (question, place) = request(memory, chain)?;
    let place = place.first().ok_or_else(|| Malformed("a command with no place for its answer".into()))?;
    let mut command = [0; COMMAND_BYTES];
    let filled = Span::new(&question).copy_to(&mut command);
    let pairs = usize::from(u16::from_le_bytes([command[2], command[3]]));
    let known = filled == COMMAND_BYTES && command[..HEADER_BYTES] == USE_PAIRS;
    let done = known && possible(pairs);
    place.write_obj(if done { OK } else { ERROR }, 0).map_err(|error| Malformed(format!("an answer: {error}")))?;
    Ok(done.then_some(pairs))
}
