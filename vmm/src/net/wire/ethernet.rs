//! The Ethernet header (IEEE 802.3).

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_BYTES: usize = 14;
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// An Ethernet frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ethernet<'a> {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    pub(crate) fn read(frame: &'a [u8]) -> Option<Self> {
        let (header, payload) = frame.split_first_chunk::<ETHERNET_BYTES>()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, k0, k1] = *header;
        let (destination, source) = ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]);
        Some(Self { destination, source, kind: u16::from_be_bytes([k0, k1]), payload })
    }
}

/// Appends an Ethernet header.
pub(crate) fn write_ethernet(frame: &mut Vec<u8>, destination: Mac, source: Mac, kind: u16) {
    frame.extend(destination);
    frame.extend(source);
    frame.extend(kind.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_shorter_than_its_header_is_none() {
        assert!(Ethernet::read(&[0; 13]).is_none());
        let frame = Ethernet::read(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0]).unwrap();
        assert_eq!((frame.destination, frame.source, frame.kind), ([1; 6], [2; 6], ETHERTYPE_IPV4));
        assert!(frame.payload.is_empty());
    }
}
