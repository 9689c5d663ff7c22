//! Parsing a frame without a gateway: Ethernet, ARP, NDP, IPv4, IPv6, ICMP, UDP. The target corrects the checksums of
//! headers, which would otherwise stop every frame.

use rorqual_vmm::fuzzing::read_frame;

/// Where the header of IPv4 begins, and its checksum in it.
const PACKET: usize = 14;
const CHECKSUM: usize = 10;

pub(crate) fn run(program: &[u8]) {
    let Some((choice, rest)) = program.split_first() else { return };
    let mut frame = vec![0x52, 0x72, 0x71, 0, 0, 1, 0x52, 0x72, 0x71, 0, 0, 2];
    frame.extend(match choice & 3 {
        0 => [8, 0],
        1 => [0x86, 0xdd],
        2 => [8, 6],
        _ => [*choice, rest.len() as u8],
    });
    frame.extend(rest);
    if choice & 0x80 == 0 {
        right_checksum(&mut frame);
    }
    read_frame(&frame);
}

/// Makes the checksum of a header of IPv4 right, and the length of the packet, if there is one.
pub(crate) fn right_checksum(frame: &mut [u8]) {
    if frame.len() < PACKET + 20 || frame[12..14] != [8, 0] {
        return;
    }
    let length = usize::from(frame[PACKET] & 15) * 4;
    let total = u16::try_from(frame.len() - PACKET).unwrap_or(u16::MAX);
    let Some(header) = frame.get_mut(PACKET..PACKET + length).filter(|header| header.len() >= 20) else { return };
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[CHECKSUM..CHECKSUM + 2].fill(0);
    let mut sum: u32 = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
