//! Several requests at once, by `io_uring`: the host's kernel does them while the device's thread continues.
//!
//! A request in the ring keeps its vectors and the guest's memory until the kernel has returned it, whatever happens to
//! the device in the meantime: [`Ring::wait_and_forget`] waits for that, and so does dropping the ring.
//!
//! The ring's descriptor is readable while there are completions. A request for sectors in the page cache is complete
//! when [`Ring::submit`] returns, and costs no wait.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};
use tracing::error;
use vm_memory::GuestMemoryMmap;

use super::disk::Disk;
use super::request::{Failure, Outcome, Request, Work};
use super::transfer::Direction;

/// Most requests in the ring at once.
const MAX_IN_FLIGHT: u32 = 256;

/// A request in flight.
pub(super) struct InFlight {
    /// Index of its queue.
    pub(super) queue: usize,
    /// Head of its chain.
    pub(super) head: u16,
    pub(super) request: Request,
    pub(super) memory: Arc<GuestMemoryMmap>,
}

/// An `io_uring` for one disk.
pub(super) struct Ring {
    kernel: IoUring,
    disk: Arc<Disk>,
    slots: Vec<Option<InFlight>>,
    free: Vec<usize>,
    /// Entries that are not submitted to the kernel yet.
    unsubmitted: usize,
}

impl Ring {
    /// Fails where the host denies this process a ring: an old kernel, `kernel.io_uring_disabled`, a filter of system
    /// calls.
    pub(super) fn new(disk: Arc<Disk>) -> io::Result<Self> {
        // The completion queue has twice as many entries as the submission queue, so it never overflows.
        let kernel = IoUring::builder().setup_r_disabled().build(MAX_IN_FLIGHT)?;
        // The operations of a ring bypass the filter of system calls. This ring can only do what a disk needs.
        let operations = [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE];
        kernel.submitter().register_restrictions(&mut operations.map(Restriction::sqe_op))?;
        kernel.submitter().register_enable_rings()?;
        let slots = (0..MAX_IN_FLIGHT).map(|_| None).collect();
        Ok(Self { kernel, disk, slots, free: (0..MAX_IN_FLIGHT as usize).rev().collect(), unsubmitted: 0 })
    }

    /// Readable while there are completions to [`reap`](Self::reap).
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and lives for as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.kernel.as_raw_fd()) }
    }

    /// Whether there are completions to [`reap`](Self::reap).
    pub(super) fn has_completions(&mut self) -> bool {
        !self.kernel.completion().is_empty()
    }

    /// How many more requests the ring takes.
    pub(super) fn room(&self) -> usize {
        self.free.len()
    }

    /// Limits the ring to `room` requests.
    #[cfg(test)]
    pub(super) fn keep_room(&mut self, room: usize) {
        self.slots.truncate(room);
        self.free.retain(|slot| *slot < room);
    }

    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Adds a request, to be handed over by the next [`submit`](Self::submit). Returns it if there is no
    /// [`room`](Self::room), or if its work is neither an unfinished transfer nor a flush.
    pub(super) fn start(&mut self, request: InFlight) -> Result<(), InFlight> {
        let Some(slot) = self.free.pop() else { return Err(request) };
        let request = self.slots[slot].insert(request);
        if let Some(entry) = entry(&self.disk, request) {
            self.push(&entry.user_data(slot as u64));
            return Ok(());
        }
        self.free.push(slot);
        self.slots[slot].take().map_or(Ok(()), Err)
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry points into a slot, which is emptied only after the entry's completion, and the slot's
        // vectors are on the heap, where they stay. A slot has one entry at a time and there are as many entries as
        // slots, so there is always room.
        if unsafe { self.kernel.submission().push(entry) }.is_err() {
            error!("a ring of the block device has no room for a request it has a slot for");
        }
        self.unsubmitted += 1;
    }

    /// Hands the added requests to the kernel.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    /// Submits, and waits for `wanted` completions.
    fn enter(&mut self, mut wanted: usize) -> io::Result<()> {
        while self.unsubmitted > 0 || wanted > 0 {
            match self.kernel.submit_and_wait(wanted) {
                // The next round submits what is left, and need not wait.
                Ok(submitted) => {
                    self.unsubmitted = self.unsubmitted.saturating_sub(submitted);
                    wanted = 0;
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // The kernel is short of memory for the moment.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                    std::thread::yield_now();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes completed requests out. A transfer that was done only in part is added again, for the next
    /// [`submit`](Self::submit).
    pub(super) fn reap(&mut self, mut ended: impl FnMut(InFlight, Outcome)) {
        loop {
            let Some(completion) = self.kernel.completion().next() else { return };
            let (slot, result) = (completion.user_data() as usize, completion.result());
            let Some(request) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
                error!(slot, "a ring of the block device completes what was never started");
                continue;
            };
            match step(request, result) {
                Step::On => {
                    if let Some(entry) = entry(&self.disk, request) {
                        self.push(&entry.user_data(slot as u64));
                    }
                }
                Step::End(outcome) => {
                    let outcome = outcome.map(|()| request.request.succeeded(&self.disk));
                    self.free.push(slot);
                    if let Some(request) = self.slots[slot].take() {
                        ended(request, outcome);
                    }
                }
            }
        }
    }

    /// Waits for one more completion, if anything is in flight, and takes completed requests out.
    pub(super) fn wait(&mut self, ended: impl FnMut(InFlight, Outcome)) -> io::Result<()> {
        if !self.is_idle() {
            self.enter(1)?;
        }
        self.reap(ended);
        Ok(())
    }

    /// Waits until nothing is in flight, and drops the requests.
    pub(super) fn wait_and_forget(&mut self) -> io::Result<()> {
        while !self.is_idle() {
            self.wait(|_, _| {})?;
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Err(error) = self.wait_and_forget() {
            error!("requests of a disk may be on their way for ever: {error}");
            // The kernel may still use what the requests point to.
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

enum Step {
    /// There is more to do.
    On,
    End(Result<(), Failure>),
}

fn step(request: &mut InFlight, result: i32) -> Step {
    let moved = match usize::try_from(result) {
        Ok(moved) => Ok(moved),
        Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) => return Step::On,
        Err(_) => Err(io::Error::from_raw_os_error(-result)),
    };
    match &mut request.request.work {
        Work::Transfer(transfer) => match moved.and_then(|bytes| transfer.moved(bytes)) {
            Ok(()) if transfer.next().is_some() => Step::On,
            Ok(()) => Step::End(Ok(())),
            Err(failure) => Step::End(Err(Failure::Host(transfer.direction.name(), failure))),
        },
        _ => Step::End(moved.map(drop).map_err(|failure| Failure::Host("flush", failure))),
    }
}

/// The next step of a request, as an entry for the kernel.
fn entry(disk: &Disk, request: &InFlight) -> Option<squeue::Entry> {
    let file = types::Fd(disk.as_fd().as_raw_fd());
    match &request.request.work {
        Work::Transfer(transfer) => {
            let (offset, vectors) = transfer.next()?;
            let (at, count) = (vectors.as_ptr(), vectors.len() as u32);
            Some(match transfer.direction {
                Direction::Read => opcode::Readv::new(file, at, count).offset(offset).build(),
                Direction::Write => opcode::Writev::new(file, at, count).offset(offset).build(),
            })
        }
        // A flush covers the writes that were answered before it (virtio 1.3 §5.2.6.2), so it need not wait for those
        // in flight.
        Work::Flush => Some(opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build()),
        _ => None,
    }
}
