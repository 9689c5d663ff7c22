//! Credit: how much each side may still send (virtio 1.3 §5.10.6.3). Counters wrap modulo 2^32, as on the wire.

use super::packet::Header;

/// Bytes the device keeps for each connection until the host takes them, announced as `buf_alloc`.
pub(super) const OWN_BUFFER_BYTES: u32 = 256 * 1024;
/// The guest is notified of freed space once it believes that less than this is left. With half the buffer, the guest
/// never runs dry while the device drains it, and one update serves many packets.
const UPDATE_BELOW_BYTES: u32 = OWN_BUFFER_BYTES / 2;

/// The guest's receive buffer, as the device knows it.
#[derive(Debug, Default)]
pub(super) struct PeerCredit {
    buf_alloc: u32,
    fwd_cnt: u32,
    sent: u32,
}

impl PeerCredit {
    /// Takes the state of the buffer from any packet of the flow.
    pub(super) fn update(&mut self, header: &Header) {
        self.buf_alloc = header.buf_alloc;
        self.fwd_cnt = header.fwd_cnt;
    }

    /// Bytes that may be sent now. Zero for a guest that shrank its buffer or acknowledges what was never sent.
    pub(super) fn available(&self) -> u32 {
        self.buf_alloc.saturating_sub(self.sent.wrapping_sub(self.fwd_cnt))
    }

    pub(super) fn spend(&mut self, bytes: u32) {
        self.sent = self.sent.wrapping_add(bytes);
    }
}

/// The guest sent more than it had credit for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// The device's receive buffer, as announced to the guest.
#[derive(Debug, Default)]
pub(super) struct OwnCredit {
    received: u32,
    forwarded: u32,
    announced: u32,
}

impl OwnCredit {
    /// Counts `bytes` that arrived from the guest.
    pub(super) fn receive(&mut self, bytes: u32) -> Result<(), Overrun> {
        let held = self.received.wrapping_sub(self.forwarded);
        if bytes > OWN_BUFFER_BYTES - held {
            return Err(Overrun);
        }
        self.received = self.received.wrapping_add(bytes);
        Ok(())
    }

    /// Counts `bytes` that were passed to the host, or dropped because the host will not read them.
    pub(super) fn forward(&mut self, bytes: u32) {
        self.forwarded = self.forwarded.wrapping_add(bytes);
    }

    /// Whether the guest should be notified of freed space without waiting for a packet that goes its way anyway.
    pub(super) fn update_due(&self) -> bool {
        // A guest that sends beyond what was announced is still within the buffer, as long as the host reads fast
        // enough.
        let free_as_seen_by_guest = OWN_BUFFER_BYTES.saturating_sub(self.received.wrapping_sub(self.announced));
        self.forwarded != self.announced && free_as_seen_by_guest < UPDATE_BELOW_BYTES
    }

    /// Writes the state of the buffer to a header for the guest.
    pub(super) fn announce(&mut self, header: &mut Header) {
        self.announced = self.forwarded;
        header.buf_alloc = OWN_BUFFER_BYTES;
        header.fwd_cnt = self.forwarded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(buf_alloc: u32, fwd_cnt: u32) -> Header {
        Header { buf_alloc, fwd_cnt, ..Header::default() }
    }

    #[test]
    fn peer_credit_survives_the_wrap_of_its_counters() {
        let mut credit = PeerCredit { buf_alloc: 0, fwd_cnt: 0, sent: u32::MAX - 9 };
        credit.update(&word(100, u32::MAX - 19));
        assert_eq!(credit.available(), 90);
        credit.spend(50);
        assert_eq!(credit.available(), 40);
        credit.update(&word(100, 20));
        assert_eq!(credit.available(), 80);
    }

    #[test]
    fn a_guest_that_acknowledges_what_was_never_sent_gets_nothing() {
        let mut credit = PeerCredit::default();
        credit.update(&word(1000, 1));
        assert_eq!(credit.available(), 0);
    }

    #[test]
    fn a_shrunken_buffer_leaves_no_credit() {
        let mut credit = PeerCredit::default();
        credit.update(&word(1000, 0));
        credit.spend(800);
        credit.update(&word(500, 0));
        assert_eq!(credit.available(), 0);
    }

    #[test]
    fn more_than_the_announced_buffer_is_an_overrun() {
        let mut credit = OwnCredit::default();
        assert_eq!(credit.receive(OWN_BUFFER_BYTES), Ok(()));
        assert_eq!(credit.receive(1), Err(Overrun));
        credit.forward(1);
        assert_eq!(credit.receive(1), Ok(()));
        assert_eq!(credit.receive(u32::MAX), Err(Overrun));
    }

    #[test]
    fn an_update_is_due_only_when_the_guest_believes_little_is_left() {
        let mut credit = OwnCredit::default();
        credit.receive(OWN_BUFFER_BYTES / 2).unwrap();
        credit.forward(OWN_BUFFER_BYTES / 2);
        assert!(!credit.update_due());
        credit.receive(1).unwrap();
        assert!(credit.update_due());
        let mut header = Header::default();
        credit.announce(&mut header);
        assert_eq!((header.buf_alloc, header.fwd_cnt), (OWN_BUFFER_BYTES, OWN_BUFFER_BYTES / 2));
        assert!(!credit.update_due());
    }

    #[test]
    fn a_guest_that_sends_beyond_what_it_was_told_is_told() {
        let mut credit = OwnCredit::default();
        for _ in 0..3 {
            credit.receive(OWN_BUFFER_BYTES / 2).unwrap();
            credit.forward(OWN_BUFFER_BYTES / 2);
        }
        assert!(credit.update_due());
    }

    #[test]
    fn nothing_is_announced_while_nothing_was_freed() {
        let mut credit = OwnCredit::default();
        credit.receive(OWN_BUFFER_BYTES).unwrap();
        assert!(!credit.update_due());
    }
}
