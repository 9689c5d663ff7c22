//! The network card: the guest's frames arrive unchanged, and frames for the guest lie whole in its buffers. An echo is
//! behind the card, so nothing leaves this process.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::sys::eventfd::{EfdFlags, EventFd};
use rorqual_vmm::devices::VirtioDevice;
use rorqual_vmm::devices::net::backend::{Accepts, Backend, Offload, Transmit};
use rorqual_vmm::devices::net::{MAX_FRAME_BYTES, MAX_PAIRS, NetDevice, Settings};
use rorqual_vmm::devices::span::Span;

use crate::guest::{Guest, Subject, attack};
use crate::program::Program;

/// Frames the echo keeps.
const KEPT: usize = 64;

struct Net(NetDevice);

struct Echo {
    event: EventFd,
    frames: VecDeque<(Vec<u8>, Offload)>,
    pair: usize,
}

impl Backend for Echo {
    fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn host_events(&mut self, _now: Instant) -> io::Result<()> {
        // It may not be readable.
        let _ = self.event.read();
        Ok(())
    }

    fn receive(&mut self, frame: Span<'_, '_>, offload: &Offload, _now: Instant) {
        assert!(frame.len() <= MAX_FRAME_BYTES, "a frame of {} bytes came through", frame.len());
        let mut bytes = vec![0; frame.len()];
        assert_eq!(frame.copy_to(&mut bytes), bytes.len());
        if self.frames.len() < KEPT {
            self.frames.push_back((bytes, *offload));
        }
    }

    fn set_pair(&mut self, number: usize) {
        assert!(number < MAX_PAIRS);
        self.pair = number;
    }

    fn next_pair(&mut self, _now: Instant) -> usize {
        self.pair
    }

    fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    fn transmit(&mut self, room: Span<'_, '_>, _now: Instant) -> Transmit {
        let Some((frame, offload)) = self.frames.pop_front() else { return Transmit::Nothing };
        if room.len() < frame.len() {
            // As for a frame that cannot be had in parts: the guest may give more room, or it is lost.
            self.frames.push_front((frame, offload));
            return Transmit::NeedsRoom;
        }
        assert_eq!(room.copy_from(&frame), frame.len());
        Transmit::Frame(frame.len(), offload)
    }

    fn settle(&mut self, _now: Instant, _deadline: Option<Instant>) {}

    fn call_again(&mut self) {
        self.event.write(1).unwrap();
    }

    fn accepts(&mut self, _accepts: Accepts) {}

    fn reset(&mut self) {
        self.frames.clear();
    }
}

impl Subject for Net {
    fn device(&mut self) -> &mut dyn VirtioDevice {
        &mut self.0
    }

    fn request(&mut self, program: &mut Program, guest: &mut Guest) {
        let pair = program.below(MAX_PAIRS);
        if program.below(8) == 0 {
            // How many pairs it uses, or anything.
            let mut command = if program.flag() { vec![4, 0] } else { program.bytes(2).to_vec() };
            command.extend([program.below(4) as u8, 0]);
            let lengths = [(4, false), (1, true), (program.length() % 64, program.flag())];
            guest.offer(2 * MAX_PAIRS, &lengths[..=program.below(3)], &command);
        } else if program.flag() {
            let length = if program.flag() { program.length() } else { 1514 + 12 };
            guest.offer(2 * pair, &[(length, true), (program.short().into(), true)][..=program.below(2)], &[]);
        } else {
            // The header that precedes a frame (virtio 1.3 §5.1.6), every field as it comes, then an Ethernet header.
            let mut contents = program.bytes(12).to_vec();
            contents.resize(12, 0);
            contents.extend([0x52, 0x54, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 2, 8, 0, 0x45]);
            guest.offer(
                2 * pair + 1,
                &[(12, false), (program.length() % 0x4000, false), (64, false)][..=program.below(3)],
                &contents,
            );
        }
    }

    fn host(&mut self, _program: &mut Program) {}

    fn check(&mut self) {}
}

pub(crate) fn run(program: &[u8]) {
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap();
    let settings = Settings { mac: [0x52, 0x54, 0, 0, 0, 1], mtu: 65_520, pairs: MAX_PAIRS };
    let device = NetDevice::new(settings, Box::new(Echo { event, frames: VecDeque::new(), pair: 0 }), None);
    attack(&mut Net(device), &mut Program::new(program));
}
