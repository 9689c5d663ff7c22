//! Jumps of the host's clock, after a sleep or when it is set. Nothing wakes up otherwise.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    time::{ClockId, clock_gettime},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Smaller jumps are corrections, which the guest need not follow each time.
const CORRECTION: TimeDelta = 200_000_000;
/// Jumps are ignored for this long after a correction. Some hosts are corrected ten times a second, and each would wake
/// us.
const CORRECTED_PAUSE: Duration = Duration::from_mins(1);

/// A difference of two clocks in nanoseconds.
type TimeDelta = i64;

/// A timer that is never due, and is cancelled by the kernel when the clock jumps (`timerfd_create(2)`,
/// `TFD_TIMER_CANCEL_ON_SET`).
pub(crate) struct ClockJumps {
    timer: AsyncFd<Timer>,
    /// The wall clock's lead, at the last reported jump, over the clock that stops while the host sleeps.
    lead: TimeDelta,
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl ClockJumps {
    pub(crate) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(TimerClock::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        arm(&timer)?;
        // SAFETY: the timer owns its descriptor, shares it with nobody, and closes it only when dropped; it is dropped
        // with the registration.
        let timer = unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) }?;
        Ok(Self { timer, lead: lead()? })
    }

    /// Waits for the next jump that is more than a correction.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        loop {
            self.cancelled().await?;
            if self.jumped(lead()?) {
                return arm(&self.timer.get_ref().0);
            }
            tokio::time::sleep(CORRECTED_PAUSE).await;
            // Later jumps cancel the timer again; earlier ones show in the lead.
            arm(&self.timer.get_ref().0)?;
            if self.jumped(lead()?) {
                return Ok(());
            }
        }
    }

    fn jumped(&mut self, lead: TimeDelta) -> bool {
        let jumped = lead.saturating_sub(self.lead).saturating_abs() >= CORRECTION;
        if jumped {
            self.lead = lead;
        }
        jumped
    }

    /// Waits until the kernel cancels the timer.
    async fn cancelled(&self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let read = ready.try_io(|inner| {
                let mut count = [0; 8];
                nix::unistd::read(&inner.get_ref().0, &mut count).map_err(io::Error::from)
            });
            match read {
                Err(_would_block) => {}
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ECANCELED as i32) => return Ok(()),
                Ok(result) => {
                    result?;
                    arm(&self.timer.get_ref().0)?;
                }
            }
        }
    }
}

fn lead() -> io::Result<TimeDelta> {
    let nanoseconds = |clock| clock_gettime(clock).map(|time| time.tv_sec() * 1_000_000_000 + time.tv_nsec());
    Ok(nanoseconds(ClockId::CLOCK_REALTIME)? - nanoseconds(ClockId::CLOCK_MONOTONIC)?)
}

fn arm(timer: &TimerFd) -> io::Result<()> {
    // In the year 2242; a later date overflows the clock of some kernels.
    let never = TimeSpec::from(Duration::from_secs(1 << 33));
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    Ok(timer.set(Expiration::OneShot(never), flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_that_stands_still_wakes_nobody() {
        let mut jumps = ClockJumps::new().unwrap();
        tokio::select! {
            biased;
            jumped = jumps.next() => panic!("{jumped:?}"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn a_sleep_is_a_jump_once_and_a_correction_is_none() {
        let mut jumps = ClockJumps::new().unwrap();
        let lead = jumps.lead;
        assert!(!jumps.jumped(lead + CORRECTION / 2));
        assert!(jumps.jumped(lead + 3600 * 1_000_000_000));
        assert!(!jumps.jumped(lead + 3600 * 1_000_000_000));
        assert!(jumps.jumped(lead));
    }
}
