//! A client of DHCP that keeps no rule: what it is answered is a sound message that gives the guest's own address, or none.

use rorqual_vmm::fuzzing::dhcp_answer;

use crate::gateway::network;

const FIXED_BYTES: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

pub(crate) fn run(program: &[u8]) {
    let network = network();
    let Some((choice, rest)) = program.split_first() else { return };
    let mut message = rest.to_vec();
    if choice & 3 != 0 {
        // A request over Ethernet as far as its options.
        let fixed = rest.len().min(FIXED_BYTES);
        let (head, options) = rest.split_at(if choice & 3 == 1 { 0 } else { fixed });
        message = head.to_vec();
        message.resize(FIXED_BYTES, 0);
        message[..3].copy_from_slice(&[1, 1, 6]);
        message.extend(COOKIE);
        message.extend(options);
    }
    let Some(answer) = dhcp_answer(&message, &network) else { return };
    assert!(answer.len() < 576, "an answer of {} bytes", answer.len());
    assert_eq!((answer[0], &answer[4..8]), (2, &message[4..8]), "an answer, to this message");
    let given = [answer[16], answer[17], answer[18], answer[19]];
    assert!(given == [0; 4] || given == network.v4.guest.octets(), "{given:?} was given");
    assert_eq!(answer[FIXED_BYTES..FIXED_BYTES + 4], COOKIE);
    let mut options = &answer[FIXED_BYTES + 4..];
    while let [number, length, rest @ ..] = options {
        assert!(*number != 0 && usize::from(*length) <= rest.len(), "option {number} of {length} bytes");
        options = &rest[usize::from(*length)..];
    }
    assert_eq!(options, [255], "an end, and nothing behind it");
}
