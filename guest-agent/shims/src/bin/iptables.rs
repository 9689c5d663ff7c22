//! The `iptables` and `ip6tables` of dockerd. It passes its arguments to the agent, which keeps one `iptables-restore`
//! running, and exits with the status of the agent's answer. If the agent leaves the command to it or does not answer,
//! it runs the real program.
//!
//! Wire format on `/run/rorqual/iptables.sock`: the arguments, each terminated by a zero byte, the program's name
//! first, then end of file. The answer is one byte, the exit status or 255 for "run the real program", then text for
//! standard error, then end of file.
#![no_std]
#![no_main]

use core::ffi::CStr;

use rorqual_shims::{Agent, Arguments, STDERR, exit, write};

const SOCKET: &[u8] = b"/run/rorqual/iptables.sock";
const REAL_IPV4: &CStr = c"/usr/sbin/iptables-legacy";
const REAL_IPV6: &CStr = c"/usr/sbin/ip6tables-legacy";
/// Longest command passed to the agent, in bytes; the real program runs a longer one.
const MAX_COMMAND: usize = 4096;
/// The answer that means "run the real program".
const RUN_REAL: u8 = 255;

rorqual_shims::start_at!(entry);

/// # Safety
/// `stack` must be the stack pointer the kernel entered with.
unsafe extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the caller vouches for it.
    let arguments = unsafe { Arguments::from_stack(stack) };
    let mut command = [0_u8; MAX_COMMAND];
    if let Some(length) = arguments.join(&mut command) {
        ask(command.get(..length).unwrap_or_default());
    }
    arguments.execute(if is_ipv6(arguments.get(0)) { REAL_IPV6 } else { REAL_IPV4 });
    write(STDERR, b"rorqual-iptables: cannot run the real iptables\n");
    exit(1)
}

fn is_ipv6(name: Option<*const u8>) -> bool {
    let Some(mut at) = name.filter(|name| !name.is_null()) else { return false };
    let mut matched = 0;
    loop {
        // SAFETY: the kernel ends each argument with a zero byte, and the walk stops there.
        let byte = unsafe { at.read() };
        at = at.wrapping_add(1);
        matched = match (byte, matched) {
            (0, _) => return false,
            (b'/', _) => 0,
            (b'i', 0) => 1,
            (b'p', 1) => 2,
            (b'6', 2) => return true,
            _ => 3,
        };
    }
}

/// Asks the agent and exits with its answer. Returns if the real program must run.
fn ask(command: &[u8]) {
    let Some(agent) = Agent::connect(SOCKET) else { return };
    if !agent.send(command) {
        return;
    }
    agent.end_sending();
    let mut answer = [0_u8; 1024];
    let mut status = None;
    loop {
        match (status, agent.receive(&mut answer)) {
            (_, []) => break,
            (None, [RUN_REAL, ..]) => return,
            (None, [first, rest @ ..]) => {
                status = Some(*first);
                write(STDERR, rest);
            }
            (Some(_), text) => {
                write(STDERR, text);
            }
        }
    }
    if let Some(status) = status {
        exit(status);
    }
}
