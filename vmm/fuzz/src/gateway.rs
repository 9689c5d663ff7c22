//! The gateway as a whole against the frames of a guest: every answer is a sound frame to that guest. All packets go to
//! addresses of the machine's own network, none of which leads out; unknown names are resolved at a loopback address.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rorqual_vmm::devices::net::backend::{Accepts, Backend, Offload, Segmentation, Transmit};
use rorqual_vmm::devices::span::{Slice, Span};
use rorqual_vmm::fuzzing::read_frame;
use rorqual_vmm::net::gateway::Gateway;
use rorqual_vmm::net::network::{Network, Subnet4};

use crate::frames::right_checksum;
use crate::program::Program;

const GUEST: [u8; 6] = [0x52, 0x72, 0x71, 0, 0, 2];
const ROUTER: [u8; 6] = [0x52, 0x72, 0x71, 0, 0, 1];
/// Longest frame.
const MAX_FRAME_BYTES: usize = 14 + 65_535;

/// The network of the targets. Nothing in it leads out: the host is closed.
pub(crate) fn network() -> Network {
    let subnet = Subnet4::parse("198.19.64.0/24").unwrap();
    Network::new(subnet, "fd72:6f72:7175:40::".parse().unwrap(), false, true)
}

fn resolv_conf() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = crate::scratch::in_memory().join(format!("rorqual-fuzz-resolv-{}", std::process::id()));
        fs::write(&path, "nameserver 127.53.53.53\n").unwrap();
        path
    })
}

pub(crate) fn run(program: &[u8]) {
    let mut program = Program::new(program);
    let mut gateway = Gateway::new("default", network(), resolv_conf()).unwrap();
    let all = program.flag();
    gateway.accepts(Accepts { checksum: all, tcp4: all, tcp6: all, udp: all });
    let mut now = Instant::now();
    let mut room = vec![0; MAX_FRAME_BYTES];
    while !program.ended() {
        let mut frame = frame(&mut program);
        let slices = [Slice::from(frame.as_mut_slice())];
        let segmentation = if program.byte() > 200 { Segmentation::Udp } else { Segmentation::None };
        let offload = Offload { segmentation, segment_bytes: program.short() | 1, ..Offload::default() };
        gateway.receive(Span::new(&slices), &offload, now);
        gateway.settle(now, None);
        if program.flag() {
            now += Duration::from_millis(1 << program.below(20));
            gateway.host_events(now).unwrap();
            gateway.settle(now, None);
        }
        take(&mut gateway, &mut room, now, &mut program);
    }
    gateway.reset();
    assert!(!gateway.has_frames(), "a gateway that was reset has frames");
}

/// Takes what the gateway has for the guest.
fn take(gateway: &mut Gateway, room: &mut [u8], now: Instant, program: &mut Program) {
    let mut left = program.below(64);
    while left > 0 && gateway.has_frames() {
        left -= 1;
        let length = match gateway.transmit(Span::new(&[Slice::from(&mut *room)]), now) {
            Transmit::Frame(length, _) => length,
            Transmit::Nothing => continue,
            Transmit::NeedsRoom => panic!("a frame is longer than any may be"),
        };
        let frame = &room[..length];
        assert_eq!(frame[6..12], ROUTER, "a frame of somebody else");
        assert!(frame[..6] == GUEST || frame[0] & 1 == 1, "a frame to somebody else");
        read_frame(frame);
    }
}

/// A frame of the guest.
fn frame(program: &mut Program) -> Vec<u8> {
    let (kind, port) = (program.byte(), program.byte());
    let count = program.below(256);
    let bytes = program.bytes(count);
    let mut frame = if port & 1 == 0 { ROUTER.to_vec() } else { vec![0xff; 6] };
    frame.extend(GUEST);
    let destination = [1, 1, 1, 254, 2, 255, 9, 7][usize::from(port >> 5)];
    match kind & 7 {
        0 => frame.extend([8, 6].iter().chain(bytes)),
        1 | 2 => {
            // Neighbours and errors, or datagrams, over IPv6.
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, bytes.len() as u8, if kind & 7 == 1 { 58 } else { 17 }, 255]);
            frame.extend([0xfd, 0x72, 0x6f, 0x72, 0x71, 0x75, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 2]);
            frame.extend([0xfd, 0x72, 0x6f, 0x72, 0x71, 0x75, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, destination]);
            frame.extend(bytes);
        }
        3 => {
            frame.extend([8, 0]);
            frame.extend(bytes);
        }
        protocol => {
            // Echoes, datagrams and segments over IPv4; parts of packets among them.
            let part = if kind & 0x18 == 0x18 { [kind & 0x20, port] } else { [0, 0] };
            frame.extend([
                8,
                0,
                0x45,
                0,
                0,
                0,
                0,
                7,
                part[0],
                part[1],
                64,
                [1, 17, 6, 17][usize::from(protocol & 3)],
                0,
                0,
            ]);
            frame.extend([198, 19, 64, 2, 198, 19, 64, destination]);
            // The resolver, a port where nothing listens, or any port.
            let begin = [vec![0x10, 0, 0, 53], vec![0, 68, 0, 67], Vec::new()];
            let begin = &begin[usize::from(kind >> 6) % 3];
            frame.extend(begin);
            if protocol != 6 && !begin.is_empty() {
                frame.extend(((bytes.len() + 8) as u16).to_be_bytes());
                frame.extend([0, 0]);
            }
            frame.extend(bytes);
        }
    }
    stay_here(&mut frame);
    right_checksum(&mut frame);
    frame
}

/// Makes the destination an address of the machine's own network.
fn stay_here(frame: &mut [u8]) {
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 8, 0, rest @ ..] if rest.len() >= 20 => {
            rest[16..19].copy_from_slice(&[198, 19, 64]);
        }
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, rest @ ..] if rest.len() >= 40 => {
            rest[24..32].copy_from_slice(&[0xfd, 0x72, 0x6f, 0x72, 0x71, 0x75, 0, 0x40]);
        }
        _ => {}
    }
}
