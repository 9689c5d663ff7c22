//! What happens to a system call that a filter does not allow.
//!
//! The filters trap: the call is not made, and the thread gets SIGSYS. The handler here writes to standard error which
//! thread made which call, and ends the process. Had the kernel killed the process, only an audit record would remain,
//! which only root can read and which does not name the thread, so a bug report would have nothing in it. The trap is
//! no weaker: no filter allows a thread to change the handler, and the kernel kills a thread that blocks the signal.

use std::io;

/// Exit status of a monitor that ended because a thread made a denied system call, or could not be confined.
pub const DENIED_STATUS: i32 = 3;

/// Linux's `siginfo_t` of a SIGSYS (`_sigsys`), on 64 bits.
#[repr(C)]
struct DeniedCall {
    /// Signal, error, code and padding.
    _header: [libc::c_int; 4],
    /// Address of the instruction.
    _address: u64,
    number: libc::c_int,
    _architecture: libc::c_uint,
}

/// Installs the handler, for all threads.
pub(super) fn report_denied_calls() -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction: an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO demands and makes only async-signal-safe calls. Nothing
    // else in the process handles the signal.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn handle(_signal: libc::c_int, information: *const libc::siginfo_t, _context: *mut libc::c_void) {
    let mut name = [0u8; 16];
    // SAFETY: the kernel passes a siginfo of a SIGSYS, which has the layout of `DeniedCall`. prctl writes 16 bytes at
    // most, with a closing zero. Every filter allows this prctl, write and exit_group.
    let number = unsafe {
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        (*information.cast::<DeniedCall>()).number
    };
    let mut line = Line::default();
    line.push(b"rorqual-vmm: confinement: thread ");
    line.push(name.split(|byte| *byte == 0).next().unwrap_or_default());
    line.push(b" made system call ");
    line.push_number(number.unsigned_abs());
    line.push(b", which it must not; the monitor ends. This is a fault of the monitor or an attack on it\n");
    // SAFETY: the bytes are on this stack, and standard error is a descriptor like any other. _exit ends every thread.
    unsafe {
        libc::write(2, line.bytes.as_ptr().cast(), line.length);
        libc::_exit(DENIED_STATUS);
    }
}

/// A line of text that needs no heap.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
    }

    fn push_number(&mut self, mut number: u32) {
        let mut digits = [0; 10];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[first..]);
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn numbers_are_written_in_decimal_and_a_long_line_is_cut() {
        let mut line = Line::default();
        for number in [0, 7, 257, u32::MAX] {
            line.push_number(number);
            line.push(b" ");
        }
        assert_eq!(&line.bytes[..line.length], b"0 7 257 4294967295 ");
        line.push(&[b'x'; 1000]);
        assert_eq!(line.length, line.bytes.len());
    }
}
