//! Queries and answers of the domain name system: our answers repeat the question, and no answer matches another query.

use rorqual_vmm::fuzzing::{dns_answer, dns_is_answer};

use crate::gateway::network;
use crate::program::Program;

const NAMES: [&str; 6] =
    ["host.docker.internal", "gateway.docker.internal", "default.rorqual.internal", "docker.internal", "a.b", ""];

pub(crate) fn run(program: &[u8]) {
    let mut program = Program::new(program);
    let query = if program.flag() { question(&mut program) } else { bytes(&mut program) };
    if let Some(answer) = dns_answer(&query, &network()) {
        assert!(answer.len() >= 12 && answer.len() <= 1024, "an answer of {} bytes", answer.len());
        assert_eq!(answer[..2], query[..2], "the query's number");
        assert!(answer[2] & 0x80 != 0, "an answer says that it is one");
        assert!(dns_answer(&answer, &network()).is_none(), "an answer is answered");
        let code = answer[3] % 16;
        if code == 0 {
            assert!(dns_is_answer(&answer, &query), "our answer is not one to the query");
        }
    }
    let message = bytes(&mut program);
    if dns_is_answer(&message, &query) {
        assert_eq!(message[..2], query[..2]);
    }
}

fn bytes(program: &mut Program) -> Vec<u8> {
    let count = program.below(256);
    program.bytes(count).to_vec()
}

/// A sound query, as far as the program lets it.
fn question(program: &mut Program) -> Vec<u8> {
    let mut query = program.short().to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in NAMES[program.below(NAMES.len())].split('.').filter(|label| !label.is_empty()) {
        query.push(label.len() as u8);
        query.extend(label.bytes().map(|byte| if program.byte() == 255 { byte ^ 0x20 } else { byte }));
    }
    query.push(0);
    query.extend([0, [1, 28, 12, 255, 6, 65][program.below(6)], 0, 1]);
    query.extend(bytes(program));
    query
}
