//! The order in which readable sockets are served, so that a busy one does not starve the others.

use std::collections::{HashSet, VecDeque};

use super::sockets::SocketId;

/// Datagrams taken from one socket before the next one has its turn.
const TURN: u32 = 16;

/// Readable sockets in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    order: VecDeque<SocketId>,
    queued: HashSet<SocketId>,
    /// Datagrams taken in the present turn, that of the first socket.
    taken: u32,
}

impl Turns {
    /// Queues a socket that has become readable.
    pub(super) fn queue(&mut self, id: SocketId) {
        if self.queued.insert(id) {
            self.order.push_back(id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The socket to take the next datagram from.
    pub(super) fn next(&mut self) -> Option<SocketId> {
        if self.taken == TURN {
            self.taken = 0;
            // There is a first socket: it has had its whole turn.
            self.order.rotate_left(1);
        }
        let id = self.order.front().copied()?;
        self.taken += 1;
        Some(id)
    }

    /// Ends the turn of the first socket, which has nothing more or is gone.
    pub(super) fn end_turn(&mut self) {
        if let Some(id) = self.order.pop_front() {
            self.queued.remove(&id);
        }
        self.taken = 0;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
