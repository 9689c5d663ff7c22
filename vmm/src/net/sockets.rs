//! What the gateway waits for, in one epoll instance: its sockets, its timer, and calls by other threads.
//!
//! Sockets are registered once, edge triggered: their owners remember that one was readable until a call would block.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Identifies a socket; never reused.
pub(crate) type SocketId = u64;

const TIMER: SocketId = 0;
const AGAIN: SocketId = 1;
const FIRST: SocketId = 16;
/// Most events taken with one call.
pub(crate) const EVENTS: usize = 128;

/// The epoll instance, and what wakes it besides sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    epoll: Arc<Epoll>,
    timer: TimerFd,
    again: Arc<EventFd>,
    armed: Option<Instant>,
    next: SocketId,
}

impl Sockets {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let again = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let again = Arc::new(again);
        epoll.add(again.as_ref(), EpollEvent::new(EpollFlags::EPOLLIN, AGAIN))?;
        Ok(Self { epoll, timer, again, armed: None, next: FIRST })
    }

    pub(crate) fn event_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// The instance itself, for the sockets of TCP, which have tokens of their own.
    pub(crate) fn epoll(&self) -> Arc<Epoll> {
        Arc::clone(&self.epoll)
    }

    /// Watches a socket for readability until it is closed.
    pub(crate) fn watch(&mut self, socket: &impl AsFd) -> io::Result<SocketId> {
        let id = self.next;
        self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, id))?;
        self.next += 1;
        Ok(id)
    }

    /// Watches a stream for everything it may report.
    pub(crate) fn watch_stream(&mut self, socket: &impl AsFd) -> io::Result<SocketId> {
        let id = self.next;
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(socket, EpollEvent::new(events, id))?;
        self.next += 1;
        Ok(id)
    }

    /// Sockets with their events, at most [`EVENTS`].
    pub(crate) fn ready(&mut self, ids: &mut Vec<(SocketId, EpollFlags)>) -> io::Result<()> {
        let mut space = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut space, EpollTimeout::ZERO) {
            Ok(count) => count,
            // Nothing is lost: epoll reports it at the next wait.
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &space[..count] {
            match event.data() {
                // Both are level triggered, and only wake the device.
                TIMER => {
                    let _ = self.timer.wait();
                    self.armed = None;
                }
                AGAIN => {
                    let _ = self.again.read();
                }
                id => ids.push((id, event.events())),
            }
        }
        Ok(())
    }

    /// Makes the instance readable immediately.
    pub(crate) fn call_again(&self) {
        // Fails only if the counter is full; the descriptor is readable then.
        let _ = self.again.write(1);
    }

    /// Makes the instance readable when written to, on any thread.
    pub(crate) fn waker(&self) -> Arc<EventFd> {
        Arc::clone(&self.again)
    }

    /// Makes the instance readable at `deadline`, or once earlier: nearly every frame postpones deadlines, and setting
    /// the timer each time would cost a system call.
    pub(crate) fn wake_at(&mut self, deadline: Option<Instant>, now: Instant) {
        let Some(deadline) = deadline else { return };
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        // Zero would disarm the timer.
        let after = deadline.saturating_duration_since(now).max(Duration::from_micros(1));
        match self.timer.set(Expiration::OneShot(TimeSpec::from_duration(after)), TimerSetTimeFlags::empty()) {
            Ok(()) => self.armed = Some(deadline),
            Err(error) => tracing::warn!(%error, "the network's timer cannot be set"),
        }
    }
}
