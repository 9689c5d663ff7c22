//! How a machine ended, for its log and for those that watch it.

use nix::sys::signal::Signal;
use rorqual_vmm_protocol::{EndReason, Event as Told};

use crate::guest::GuestEnd;

/// The end of a machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct End {
    /// Why.
    pub(crate) reason: EndReason,
    /// A sentence for people; empty when the reason is enough.
    pub(crate) detail: String,
}

/// What had happened when the guest ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    /// A request or a signal demanded the end.
    pub(crate) kill_asked: bool,
    /// A request or a signal asked the guest to power off.
    pub(crate) stop_asked: bool,
    /// The guest has reset.
    pub(crate) reset: bool,
}

impl End {
    /// The end of a machine whose guest ended with `last_words` on its console.
    pub(crate) fn of(guest: &GuestEnd, before: Before, last_words: &str) -> Self {
        let (reason, detail) = match guest {
            _ if before.kill_asked => (EndReason::Killed, String::new()),
            // Before its init takes over the power button, a kernel answers it with a reset.
            _ if before.reset && before.stop_asked => {
                (EndReason::PowerOff, "the guest reset when it was asked to stop".to_owned())
            }
            // A kernel that panicked resets, too (`panic=1`).
            _ if before.reset && last_words.contains("Kernel panic") => (EndReason::Crashed, last_words.to_owned()),
            _ if before.reset => (EndReason::Reset, String::new()),
            GuestEnd::Exited(0) => (EndReason::PowerOff, String::new()),
            end => (EndReason::Crashed, format!("{}: {last_words}", describe(end))),
        };
        Self { reason, detail }
    }

    /// The event for those that watch.
    pub(super) fn event(&self) -> Told {
        Told::Exited { detail: self.detail.clone(), reason: self.reason }
    }
}

/// How the guest ended, in words.
pub(crate) fn describe(end: &GuestEnd) -> String {
    match end {
        GuestEnd::Exited(status) => format!("the guest kernel exited with status {status}"),
        GuestEnd::Signalled(signal) => match Signal::try_from(*signal) {
            Ok(signal) => format!("{signal} ended the guest kernel"),
            Err(_) => format!("signal {signal} ended the guest kernel"),
        },
        GuestEnd::ProcessorFailed(reason) => format!("the guest's processor cannot continue: {reason}"),
        GuestEnd::SupervisorKilled => "the supervisor of the guest kernel was killed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(guest: &GuestEnd, before: Before, last_words: &str) -> (EndReason, String) {
        let End { reason, detail } = End::of(guest, before, last_words);
        (reason, detail)
    }

    #[test]
    fn a_power_off_a_reset_a_panic_and_a_kill_have_their_own_reasons() {
        let exited = GuestEnd::Exited(0);
        let reset = Before { reset: true, ..Before::default() };
        assert_eq!(end(&exited, Before::default(), "bye"), (EndReason::PowerOff, String::new()));
        assert_eq!(end(&exited, reset, "bye"), (EndReason::Reset, String::new()));
        let panic = "Kernel panic - not syncing";
        assert_eq!(end(&exited, reset, panic), (EndReason::Crashed, panic.to_owned()));
        let stopped = Before { stop_asked: true, ..reset };
        assert_eq!(end(&exited, stopped, panic).0, EndReason::PowerOff);
        let killed = Before { kill_asked: true, ..stopped };
        assert_eq!(end(&GuestEnd::Signalled(9), killed, panic), (EndReason::Killed, String::new()));
    }

    #[test]
    fn a_crash_is_explained_with_the_last_words() {
        let crash = |guest| end(&guest, Before::default(), "oops");
        assert_eq!(
            crash(GuestEnd::Signalled(11)),
            (EndReason::Crashed, "SIGSEGV ended the guest kernel: oops".to_owned())
        );
        assert!(crash(GuestEnd::Exited(3)).1.contains("exited with status 3: oops"));
        assert!(crash(GuestEnd::ProcessorFailed("it halted forever".to_owned())).1.contains("it halted forever: oops"));
        assert!(crash(GuestEnd::SupervisorKilled).1.contains("supervisor"));
    }
}
