//! Reassembly of packets that arrive in fragments, bounded in number, size and time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::wire::{Fragment, Ip};

/// Most packets under reassembly. A new one evicts the oldest.
const MAX_PACKETS: usize = 16;
/// Most fragments of one packet: more than a link of 1280 bytes makes of the longest packet.
const MAX_PARTS: usize = 64;
const MAX_PAYLOAD_BYTES: usize = 65_535;
/// Time after which an incomplete packet is dropped.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

#[derive(Debug)]
struct Packet {
    begun: Instant,
    /// Offset and bytes of each fragment.
    parts: Vec<(usize, Vec<u8>)>,
    /// Known once the last fragment has arrived.
    length: Option<usize>,
}

/// Packets under reassembly.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    packets: HashMap<Key, Packet>,
}

impl Fragments {
    /// Adds a fragment. Returns the whole payload if it was the last one missing. A packet whose fragments overlap is
    /// dropped (RFC 5722).
    pub(crate) fn add(&mut self, packet: &Ip<'_>, fragment: Fragment, now: Instant) -> Option<Vec<u8>> {
        self.packets.retain(|_, packet| now.saturating_duration_since(packet.begun) < PATIENCE);
        let key = Key {
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            identification: fragment.identification,
        };
        if !self.packets.contains_key(&key) && self.packets.len() >= MAX_PACKETS {
            let oldest = self.packets.iter().min_by_key(|(_, packet)| packet.begun).map(|(key, _)| *key)?;
            self.packets.remove(&oldest);
        }
        let begin = || Packet { begun: now, parts: Vec::new(), length: None };
        let collected = self.packets.entry(key).or_insert_with(begin);
        match collected.add(fragment, packet.payload) {
            Ok(None) => None,
            Ok(Some(whole)) => {
                self.packets.remove(&key);
                Some(whole)
            }
            Err(()) => {
                self.packets.remove(&key);
                None
            }
        }
    }

    /// Bytes of all fragments that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.packets.values().flat_map(|packet| &packet.parts).map(|(_, part)| part.len()).sum()
    }

    pub(crate) fn clear(&mut self) {
        self.packets.clear();
    }
}

impl Packet {
    fn add(&mut self, fragment: Fragment, bytes: &[u8]) -> Result<Option<Vec<u8>>, ()> {
        let end = fragment.offset + bytes.len();
        let uneven = fragment.more && !bytes.len().is_multiple_of(8);
        if bytes.is_empty() || uneven || end > MAX_PAYLOAD_BYTES || self.parts.len() >= MAX_PARTS {
            return Err(());
        }
        if !fragment.more && self.length.replace(end).is_some_and(|length| length != end) {
            return Err(());
        }
        if self.parts.iter().any(|(begin, part)| *begin == fragment.offset && part == bytes) {
            return Ok(None);
        }
        let overlaps = |(begin, part): &(usize, Vec<u8>)| *begin < end && fragment.offset < begin + part.len();
        if self.parts.iter().any(overlaps) {
            return Err(());
        }
        self.parts.push((fragment.offset, bytes.to_vec()));
        let Some(length) = self.length else { return Ok(None) };
        let have: usize = self.parts.iter().map(|(_, part)| part.len()).sum();
        if have < length {
            return Ok(None);
        }
        self.parts.sort_by_key(|(begin, _)| *begin);
        let whole: Vec<u8> = self.parts.drain(..).flat_map(|(_, part)| part).collect();
        // A fragment lies behind the last one.
        if whole.len() == length { Ok(Some(whole)) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(
        fragments: &mut Fragments,
        identification: u32,
        offset: usize,
        more: bool,
        payload: &[u8],
        now: Instant,
    ) -> Option<Vec<u8>> {
        let packet = Ip {
            source: [1, 1, 1, 1].into(),
            destination: [2, 2, 2, 2].into(),
            protocol: 17,
            hop_limit: 64,
            fragment: None,
            payload,
            packet: &[],
        };
        fragments.add(&packet, Fragment { identification, offset, more }, now)
    }

    #[test]
    fn parts_in_any_order_make_the_packet() {
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        assert_eq!(add(&mut fragments, 1, 16, false, b"end", now), None);
        assert_eq!(add(&mut fragments, 2, 0, true, b"another.", now), None);
        assert_eq!(add(&mut fragments, 1, 0, true, b"first...", now), None);
        assert_eq!(add(&mut fragments, 1, 0, true, b"first...", now), None, "again");
        assert_eq!(add(&mut fragments, 1, 8, true, b"second..", now).unwrap(), b"first...second..end");
        assert_eq!(fragments.packets.len(), 1);
    }

    #[test]
    fn parts_that_overlap_or_cannot_be_end_the_packet() {
        for (offset, more, payload) in [
            (8, true, &b"overlaps"[..]),
            (8, false, b"overlaps"),
            (16, true, b"uneven"),
            (65_528, false, b"too long"),
            (16, true, b""),
        ] {
            let (mut fragments, now) = (Fragments::default(), Instant::now());
            assert_eq!(add(&mut fragments, 1, 0, true, b"sixteen bytes...", now), None);
            assert_eq!(add(&mut fragments, 1, offset, more, payload, now), None);
            assert!(fragments.packets.is_empty(), "{offset} {more} {payload:?}");
        }
    }

    #[test]
    fn a_flood_of_parts_costs_no_more_than_the_table_and_ends_with_time() {
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        for identification in 0..1000 {
            add(&mut fragments, identification, 8, true, b"12345678", now);
        }
        assert_eq!(fragments.packets.len(), MAX_PACKETS);
        for part in 0..1000 {
            add(&mut fragments, 5000, part * 16, true, b"12345678", now);
        }
        assert!(fragments.packets.values().all(|packet| packet.parts.len() <= MAX_PARTS));
        add(&mut fragments, 6000, 8, true, b"12345678", now + PATIENCE);
        assert_eq!(fragments.packets.len(), 1);
    }
}
