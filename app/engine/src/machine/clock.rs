//! Jumps of the host's clock: after a sleep, or when somebody sets it. Nothing wakes up otherwise.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use tokio::io::{Interest, unix::AsyncFd};

/// A timer that is never due, and is cancelled by the kernel when the clock jumps (`timerfd_create(2)`,
/// `TFD_TIMER_CANCEL_ON_SET`).
pub(crate) struct ClockJumps(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl ClockJumps {
    pub(crate) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        arm(&timer)?;
        // SAFETY: the timer owns its descriptor, gives out no other, and closes it only when dropped; it is dropped with
        // the registration.
        Ok(Self(unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) }?))
    }

    /// Waits for the next jump.
    pub(crate) async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|inner| {
                let mut count = [0; 8];
                nix::unistd::read(&inner.get_ref().0, &mut count).map_err(io::Error::from)
            });
            match read {
                Err(_would_block) => {}
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ECANCELED as i32) => {
                    return arm(&self.0.get_ref().0);
                }
                Ok(result) => {
                    result?;
                    arm(&self.0.get_ref().0)?;
                }
            }
        }
    }
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
        let jumps = ClockJumps::new().unwrap();
        tokio::select! {
            biased;
            jumped = jumps.next() => panic!("{jumped:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
}
