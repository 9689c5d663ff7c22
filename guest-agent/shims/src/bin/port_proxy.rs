//! The userland proxy dockerd starts for each published port. It carries no traffic: it asks the agent, which asks the
//! host, to listen; returns the verdict to dockerd; and holds the port until it ends.
//!
//! dockerd (libnetwork) starts it as `rorqual-port-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip
//! 172.17.0.2 -container-port 80`, with a pipe as descriptor 3 on which it expects `0\n`, or `1\n` and a reason. It
//! ends the proxy by SIGINT, or by SIGTERM when dockerd itself ends. An end by either is a success.
//!
//! Wire format on `/run/rorqual/ports.sock`: the arguments, each terminated by a zero byte, the program's name first,
//! and one more zero byte. The answer is the one dockerd expects; end of file follows a refusal. The port is published
//! while the connection is open.
#![no_std]
#![no_main]

use rorqual_shims::{Agent, Arguments, SIGINT, SIGTERM, close, exit, succeed_on, write};

const SOCKET: &[u8] = b"/run/rorqual/ports.sock";
/// Environment variable by which tests name another socket of the agent.
const SOCKET_VARIABLE: &[u8] = b"RORQUAL_PORTS_SOCKET=";
/// Descriptor on which dockerd expects the verdict.
const STATUS: usize = 3;
/// Longest request, in bytes; dockerd's arguments are some 150.
const MAX_REQUEST: usize = 1024;

rorqual_shims::start_at!(entry);

/// # Safety
/// `stack` must be the stack pointer the kernel entered with.
unsafe extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the caller vouches for it.
    let arguments = unsafe { Arguments::from_stack(stack) };
    succeed_on(SIGINT);
    succeed_on(SIGTERM);
    let mut request = [0_u8; MAX_REQUEST];
    // No argument reaches the buffer's last byte, which is the zero that ends the request.
    let length = request.get_mut(..MAX_REQUEST - 1).and_then(|room| arguments.join(room));
    let Some(request) = length.and_then(|length| request.get(..=length)) else {
        refuse(b"dockerd's arguments for the port proxy are too long")
    };
    let socket = arguments.variable(SOCKET_VARIABLE).unwrap_or(SOCKET);
    let Some(agent) = Agent::connect(socket).filter(|agent| agent.send(request)) else {
        refuse(b"the guest agent does not answer on /run/rorqual/ports.sock; restart the machine")
    };
    hold(&agent)
}

/// Passes the verdict on to dockerd and waits for the end.
fn hold(agent: &Agent) -> ! {
    let mut said = [0_u8; 512];
    match agent.receive(&mut said) {
        [] => refuse(b"the guest agent gave no answer on /run/rorqual/ports.sock; restart the machine"),
        verdict @ [b'0', ..] => {
            write(STATUS, verdict);
            // dockerd reads to the end of the pipe.
            close(STATUS);
            // The agent sends nothing more, so the next event is its end, which is also the port's.
            while !agent.receive(&mut said).is_empty() {}
            exit(0)
        }
        refusal => {
            write(STATUS, refusal);
            loop {
                match agent.receive(&mut said) {
                    [] => exit(1),
                    rest => write(STATUS, rest),
                };
            }
        }
    }
}

fn refuse(reason: &[u8]) -> ! {
    write(STATUS, b"1\n");
    write(STATUS, reason);
    exit(1)
}
