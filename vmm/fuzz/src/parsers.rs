//! What is parsed without a device: the configuration, the control socket's requests, the first line of a stream from
//! the host, the header of a vsock packet.

use rorqual_vmm::fuzzing::{configuration_is_valid, connect_line, header_round_trip, is_control_request};

pub(crate) fn run(program: &[u8]) {
    let Some((choice, rest)) = program.split_first() else { return };
    match choice & 3 {
        0 => {
            configuration_is_valid(&String::from_utf8_lossy(rest));
        }
        1 => {
            is_control_request(&String::from_utf8_lossy(rest));
        }
        2 => {
            if let Some(port) = connect_line(rest) {
                let line = format!("CONNECT {port}\n");
                assert_eq!(connect_line(line.as_bytes()), Some(port), "a port is written one way");
            }
        }
        _ => {
            if let Some(header) = rest.first_chunk() {
                assert_eq!(header_round_trip(header), *header);
            }
        }
    }
}
