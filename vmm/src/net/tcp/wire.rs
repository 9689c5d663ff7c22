//! TCP segments as bytes: parsed from the guest, and headers for the guest (RFC 9293 §3.1, RFC 7323 §2).

use std::net::{IpAddr, SocketAddr};

use super::identity::Pair;
use super::sequence::Sequence;
use crate::devices::span::Span;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// Protocol number of TCP.
const PROTOCOL: u8 = 6;
const TCP_HEADER_BYTES: usize = 20;
const MAX_TCP_HEADER_BYTES: usize = 60;
/// Position of the checksum in the TCP header, in bytes.
pub(super) const CHECKSUM_OFFSET: u16 = 16;
/// Largest shift count (RFC 7323 §2.3).
const MAX_SCALE: u8 = 14;
/// Most bytes of headers ever written: IPv6, TCP, two options.
pub(super) const MAX_HEADER_BYTES: usize = 40 + TCP_HEADER_BYTES + 8;
/// Hop limit of packets for the guest.
const HOPS: u8 = 64;

/// Whether the checksum of a segment from the guest must be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is partial, as the virtio-net header reports (`VIRTIO_NET_HDR_F_NEEDS_CSUM`), and cannot be verified.
    Partial,
    /// It is complete and must be verified.
    Complete,
}

/// A TCP segment of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a, 'm> {
    /// Source address of its IP header.
    pub source: IpAddr,
    /// Destination address of its IP header.
    pub destination: IpAddr,
    /// The TCP header and what follows it, to the end of the IP packet.
    pub bytes: Span<'a, 'm>,
    /// The checksum's state, as the virtio-net header reports it.
    pub checksum: Checksum,
}

/// A parsed segment. The payload is in guest memory, where it may change; nothing else can.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed<'a, 'm> {
    pub(super) pair: Pair,
    pub(super) sequence: Sequence,
    pub(super) acknowledged: Sequence,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    pub(super) payload: Span<'a, 'm>,
}

impl<'a, 'm> Parsed<'a, 'm> {
    /// Parses a segment; None if it is not valid TCP.
    pub(super) fn new(segment: &Segment<'a, 'm>) -> Option<Self> {
        let mut space = [0; MAX_TCP_HEADER_BYTES];
        let copied = segment.bytes.copy_to(&mut space);
        let header = space.get(..copied)?;
        let header_bytes = usize::from(header.get(12)? >> 4) * 4;
        if header_bytes < TCP_HEADER_BYTES || header_bytes > copied {
            return None;
        }
        if segment.checksum == Checksum::Complete {
            let mut sum = pseudo_header(segment.source, segment.destination, segment.bytes.len());
            sum.add_span(segment.bytes);
            if sum.folded() != 0xffff {
                return None;
            }
        }
        let u16_at = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (mss, scale) = options(&header[TCP_HEADER_BYTES..header_bytes]);
        Some(Self {
            pair: Pair {
                guest: SocketAddr::new(segment.source, u16_at(0)),
                remote: SocketAddr::new(segment.destination, u16_at(2)),
            },
            sequence: Sequence(u32_at(4)),
            acknowledged: Sequence(u32_at(8)),
            flags: header[13],
            window: u16_at(14),
            mss,
            scale,
            payload: segment.bytes.after(header_bytes),
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sequence numbers it occupies: those of its bytes, SYN and FIN.
    pub(super) fn length(&self) -> usize {
        self.payload.len() + usize::from(self.has(SYN)) + usize::from(self.has(FIN))
    }
}

/// Maximum segment size and window scale. Unknown or truncated options are skipped.
fn options(mut bytes: &[u8]) -> (Option<u16>, Option<u8>) {
    let (mut mss, mut scale) = (None, None);
    while let [kind, rest @ ..] = bytes {
        match kind {
            0 => break,
            1 => bytes = rest,
            _ => {
                let Some(&length) = rest.first() else { break };
                if length < 2 || usize::from(length) > bytes.len() {
                    break;
                }
                let (option, after) = bytes.split_at(usize::from(length));
                match *option {
                    [2, 4, high, low] => mss = Some(u16::from_be_bytes([high, low])),
                    [3, 3, shift] => scale = Some(shift.min(MAX_SCALE)),
                    _ => {}
                }
                bytes = after;
            }
        }
    }
    (mss, scale)
}

/// The headers of a segment for the guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    pub(super) pair: Pair,
    pub(super) sequence: Sequence,
    pub(super) acknowledged: Option<Sequence>,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
}

impl Headers {
    /// Bytes of the IP header.
    pub(super) fn ip_bytes(pair: &Pair) -> usize {
        if pair.guest.is_ipv4() { 20 } else { 40 }
    }

    /// Bytes of IP and TCP header.
    pub(super) fn bytes(&self) -> usize {
        Self::ip_bytes(&self.pair) + self.tcp_bytes()
    }

    fn tcp_bytes(&self) -> usize {
        TCP_HEADER_BYTES + 4 * usize::from(self.mss.is_some()) + 4 * usize::from(self.scale.is_some())
    }

    /// The headers of a segment whose payload is `payload`, at the beginning of the returned bytes. The TCP checksum
    /// covers `payload`, or is partial: the sum of the pseudo-header (virtio 1.3 §5.1.6.2).
    pub(super) fn build(&self, payload: Span<'_, '_>, partial: bool) -> [u8; MAX_HEADER_BYTES] {
        let mut bytes = [0; MAX_HEADER_BYTES];
        let (source, destination) = (self.pair.remote, self.pair.guest);
        let tcp_length = self.tcp_bytes() + payload.len();
        let ip_bytes = Self::ip_bytes(&self.pair);
        let (ip, tcp) = bytes.split_at_mut(ip_bytes);
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ip[0] = 0x45;
                ip[2..4].copy_from_slice(&((ip_bytes + tcp_length) as u16).to_be_bytes());
                // Don't fragment; without fragments the identification has no meaning (RFC 6864).
                ip[6] = 0x40;
                ip[8] = HOPS;
                ip[9] = PROTOCOL;
                ip[12..16].copy_from_slice(&source.octets());
                ip[16..20].copy_from_slice(&destination.octets());
                let mut sum = Sum::default();
                sum.add(ip);
                ip[10..12].copy_from_slice(&(!sum.folded()).to_be_bytes());
            }
            (source, destination) => {
                ip[0] = 0x60;
                ip[4..6].copy_from_slice(&(tcp_length as u16).to_be_bytes());
                ip[6] = PROTOCOL;
                ip[7] = HOPS;
                ip[8..24].copy_from_slice(&octets(source));
                ip[24..40].copy_from_slice(&octets(destination));
            }
        }
        tcp[0..2].copy_from_slice(&source.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&destination.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&self.sequence.0.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.acknowledged.unwrap_or_default().0.to_be_bytes());
        tcp[12] = (self.tcp_bytes() as u8 / 4) << 4;
        tcp[13] = self.flags | if self.acknowledged.is_some() { ACK } else { 0 };
        tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
        let mut at = TCP_HEADER_BYTES;
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            tcp[at..at + 4].copy_from_slice(&[2, 4, high, low]);
            at += 4;
        }
        if let Some(scale) = self.scale {
            tcp[at..at + 4].copy_from_slice(&[1, 3, 3, scale]);
            at += 4;
        }
        let mut sum = pseudo_header(source.ip(), destination.ip(), tcp_length);
        let checksum = if partial {
            sum.folded()
        } else {
            sum.add(&tcp[..at]);
            sum.add_span(payload);
            !sum.folded()
        };
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The Internet checksum (RFC 1071) during summation.
#[derive(Clone, Copy, Debug, Default)]
struct Sum(u64);

impl Sum {
    /// Adds bytes. Only the last of several calls may add an odd number of them.
    fn add(&mut self, bytes: &[u8]) {
        let mut pairs = bytes.chunks_exact(2);
        for pair in &mut pairs {
            self.0 += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        if let [last] = pairs.remainder() {
            self.0 += u64::from(*last) << 8;
        }
    }

    fn add_span(&mut self, mut span: Span<'_, '_>) {
        let mut space = [0; 2048];
        while !span.is_empty() {
            let copied = span.copy_to(&mut space);
            if copied == 0 {
                return;
            }
            self.add(&space[..copied]);
            span = span.after(copied);
        }
    }

    fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

fn pseudo_header(source: IpAddr, destination: IpAddr, tcp_length: usize) -> Sum {
    let mut sum = Sum::default();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            sum.add(&source.octets());
            sum.add(&destination.octets());
        }
        (source, destination) => {
            sum.add(&octets(source));
            sum.add(&octets(destination));
        }
    }
    sum.add(&(tcp_length as u32).to_be_bytes());
    sum.add(&[0, PROTOCOL]);
    sum
}
