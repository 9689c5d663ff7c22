//! A flow at rest, in as few bytes as possible.
//!
//! At rest, nothing is in flight, pending, due or owed, both directions are open, and the timer is the keep-alive. That
//! determines most of a [`Flow`]: everything sent is acknowledged, so its sequence numbers are equal.

use std::time::{Duration, Instant};

use super::flow::{Flow, KEEP_ALIVE_AFTER, State};
use super::identity::Pair;
use super::sequence::Sequence;
use super::socket::Socket;

/// Length of a period, in seconds. The keep-alives of all dormant flows of a period are due at its end.
const PERIOD_SECONDS: u32 = 60;
/// Stands for a shift if the guest did not offer window scaling.
const UNSCALED: u8 = u8::MAX;

/// What all flows of a splice have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) started: Instant,
    /// The shift of the windows offered to guests that scale them.
    pub(super) scale: u8,
}

/// The period in which a keep-alive is due, by its number since the splice was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Period(u32);

impl Period {
    /// The period in which the keep-alive of a guest last heard at `heard` is due.
    pub(super) fn of(heard: Instant, common: &Common) -> Self {
        let due = (heard + KEEP_ALIVE_AFTER).saturating_duration_since(common.started);
        let periods = due.as_nanos().div_ceil(u128::from(PERIOD_SECONDS) * 1_000_000_000);
        Self(u32::try_from(periods).unwrap_or(u32::MAX))
    }

    /// When the keep-alives of this period are due.
    pub(super) fn end(self, common: &Common) -> Instant {
        common.started + Duration::from_secs(u64::from(self.0) * u64::from(PERIOD_SECONDS))
    }

    /// A time at which a guest was last heard whose keep-alive is due in this period, up to one period late.
    /// [`Period::of`] returns the same period for it.
    pub(super) fn heard(self, common: &Common) -> Instant {
        let end = u64::from(self.0) * u64::from(PERIOD_SECONDS);
        common.started + Duration::from_secs(end).saturating_sub(KEEP_ALIVE_AFTER)
    }
}

/// [`Flow::asked`] and [`Flow::conversing`] in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    None,
    Asked,
    Conversing,
    Both,
}

impl Turns {
    fn of(flow: &Flow) -> Self {
        match (flow.asked, flow.conversing) {
            (false, false) => Self::None,
            (true, false) => Self::Asked,
            (false, true) => Self::Conversing,
            (true, true) => Self::Both,
        }
    }
}

/// A flow at rest, without its ends and the time its guest was last heard, which its slot holds.
#[derive(Debug)]
pub(super) struct Dormant {
    socket: Socket,
    /// The next byte for the guest; all bytes before it are acknowledged.
    next_out: Sequence,
    window: u32,
    max_window: u32,
    window_sequence: Sequence,
    window_acknowledged: Sequence,
    next_in: Sequence,
    edge: Sequence,
    mss: u16,
    /// The shift of the guest's windows, or [`UNSCALED`]; both sides scale, or none.
    scale: u8,
    turns: Turns,
}

impl Dormant {
    /// The dormant form of a flow [at rest](Flow::is_at_rest), whose socket it takes; None if the flow is not at rest.
    pub(super) fn of(flow: &mut Flow) -> Option<Self> {
        if !flow.is_at_rest() {
            return None;
        }
        let socket = flow.socket.take()?;
        let (outbound, inbound) = (&flow.outbound, &flow.inbound);
        Some(Self {
            socket,
            next_out: outbound.unacknowledged,
            window: outbound.window as u32,
            max_window: outbound.max_window as u32,
            window_sequence: outbound.window_sequence,
            window_acknowledged: outbound.window_acknowledged,
            next_in: inbound.next,
            edge: inbound.edge,
            mss: outbound.mss as u16,
            scale: if inbound.scale.is_some() { outbound.scale } else { UNSCALED },
            turns: Turns::of(flow),
        })
    }

    /// The awake form of the flow between `pair`, whose guest was last heard at `heard`.
    pub(super) fn wake(self, pair: Pair, heard: Instant, common: &Common) -> Flow {
        let mut flow = Flow::new(heard, pair, State::Open, self.next_out);
        flow.socket = Some(self.socket);
        flow.outbound.window = self.window as usize;
        flow.outbound.max_window = self.max_window as usize;
        flow.outbound.window_sequence = self.window_sequence;
        flow.outbound.window_acknowledged = self.window_acknowledged;
        flow.outbound.mss = usize::from(self.mss);
        flow.inbound.next = self.next_in;
        flow.inbound.edge = self.edge;
        if self.scale != UNSCALED {
            flow.outbound.scale = self.scale;
            flow.inbound.scale = Some(common.scale);
        }
        flow.asked = matches!(self.turns, Turns::Asked | Turns::Both);
        flow.conversing = matches!(self.turns, Turns::Conversing | Turns::Both);
        flow
    }
}
