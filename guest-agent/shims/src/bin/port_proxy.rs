//! The userland proxy dockerd starts for each published port. It carries no traffic: it asks the agent, which asks the
//! host, to listen; returns the verdict to dockerd; and holds the port until it ends.
//!
//! dockerd (libnetwork) starts it as `rorqual-port-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip
//! 172.17.0.2 -container-port 80 -use-listen-fd`. Descriptor 3 is a pipe on which it expects `0\n`, or `1\n` and a
//! reason. Descriptor 4 is the socket that dockerd has bound to the port in the machine; a TCP one listens already. It
//! ends the proxy by SIGINT, or by SIGTERM when dockerd itself ends. An end by either is a success.
//!
//! Wire format on `/run/rorqual/ports.sock`: the arguments, each terminated by a zero byte, the program's name first,
//! and one more zero byte. The socket travels with them (`SCM_RIGHTS`). The answer is the one dockerd expects; end of
//! file follows a refusal. The port is published until the proxy sends end of file, and the agent answers that with its
//! own once it has closed the socket: after the proxy's end, dockerd may bind the port again.
#![no_std]
#![no_main]

use rorqual_shims::{Agent, Arguments, SIGINT, SIGTERM, close, exit, succeed_on, write};

const SOCKET: &[u8] = b"/run/rorqual/ports.sock";
/// Environment variable by which tests name another socket of the agent.
const SOCKET_VARIABLE: &[u8] = b"RORQUAL_PORTS_SOCKET=";
/// Descriptor on which dockerd expects the verdict.
const STATUS: usize = 3;
/// Descriptor of the socket bound to the port, and the argument that announces it.
const LISTENER: i32 = 4;
const USE_LISTENER: &[u8] = b"-use-listen-fd";
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
    let sent = |agent: &Agent| {
        if arguments.has(USE_LISTENER) { agent.send_with(request, LISTENER) } else { agent.send(request) }
    };
    let Some(agent) = Agent::connect(socket).filter(sent) else {
        refuse(b"the guest agent does not answer on /run/rorqual/ports.sock; restart the machine")
    };
    agent.end_on(&[SIGINT, SIGTERM]);
    if arguments.has(USE_LISTENER) {
        // The agent has a duplicate, and the port is free once that is closed.
        close(LISTENER.unsigned_abs() as usize);
    }
    hold(agent)
}

/// Passes the verdict on to dockerd and waits for the end.
fn hold(agent: Agent) -> ! {
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
