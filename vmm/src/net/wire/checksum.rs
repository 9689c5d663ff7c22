//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// The ones' complement sum of 16-bit words, not folded. An odd last byte is the upper half of a word.
fn sum(bytes: &[u8], initial: u64) -> u64 {
    let mut sum = initial;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of `bytes` and of what `initial` sums up. It is 0 if `bytes` contain a valid checksum.
pub(crate) fn checksum(bytes: &[u8], initial: u64) -> u16 {
    !fold(sum(bytes, initial))
}

/// The sum of the pseudo header, with which checksums of transport protocols begin.
pub(crate) fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let of = |address| match address {
        IpAddr::V4(address) => sum(&address.octets(), 0),
        IpAddr::V6(address) => sum(&address.octets(), 0),
    };
    of(source) + of(destination) + u64::from(protocol) + length as u64
}

/// The folded sum of the pseudo header, which replaces a checksum that is left to the other side.
pub(crate) fn partial_checksum(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u16 {
    fold(pseudo_header(source, destination, protocol, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_standards_example_is_right() {
        // RFC 1071, section 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes, 0), !0xddf2);
        let mut whole = bytes.to_vec();
        whole.extend(checksum(&bytes, 0).to_be_bytes());
        assert_eq!(checksum(&whole, 0), 0);
        // An odd byte is the upper half of a word.
        assert_eq!(checksum(&[0x12], 0), !0x1200);
        assert_eq!(checksum(&[1, 2, 3], 0), checksum(&[1, 2, 3, 0], 0));
    }
}
