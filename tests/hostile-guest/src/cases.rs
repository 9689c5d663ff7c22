//! The cases: what the guest does wrong.

use crate::script::{BUFFER, INDIRECT, NEEDS_RESET, NEXT, NOTIFY, Rings, STATUS, Script, WRITE, device};

/// The devices, in the order the guest finds them.
pub(crate) const BAD: u32 = 0;
pub(crate) const GOOD: u32 = 1;
pub(crate) const VSOCK: u32 = 2;
/// First word of each disk.
pub(crate) const BAD_WORD: u32 = 0x2144_4142;
pub(crate) const GOOD_WORD: u32 = 0x444f_4f47;

/// How the machine must end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// It powers off itself, after the good disk has answered.
    PowerOff,
    /// It resets.
    Reset,
    /// It crashes, with this text in the log.
    Crash(&'static str),
    /// It does not end; it is killed by request.
    Killed,
}

/// One way to misbehave.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) misbehave: fn(&mut Script),
    /// The device that must stop, and its name in the log.
    pub(crate) stops: Option<(u32, &'static str)>,
    pub(crate) ending: Ending,
}

const RINGS: Rings = Rings { device: BAD, queue: 0, size: 64 };
const STOPS_BAD: Option<(u32, &str)> = Some((BAD, "bad"));
const STOPS_VSOCK: Option<(u32, &str)> = Some((VSOCK, "vsock"));

const fn case(name: &'static str, misbehave: fn(&mut Script), stops: Option<(u32, &'static str)>) -> Case {
    Case { name, misbehave, stops, ending: Ending::PowerOff }
}

const fn ends(name: &'static str, misbehave: fn(&mut Script), ending: Ending) -> Case {
    Case { name, misbehave, stops: None, ending }
}

/// All cases.
pub(crate) const CASES: [Case; 22] = [
    case("nothing", |_| {}, None),
    case("descriptor-loop", descriptor_loop, STOPS_BAD),
    case("descriptor-outside-memory", descriptor_outside_memory, STOPS_BAD),
    case("absurd-length", absurd_length, STOPS_BAD),
    case("available-index-leaps", available_index_leaps, STOPS_BAD),
    case("head-outside-table", head_outside_table, STOPS_BAD),
    case("indirect-in-indirect", indirect_in_indirect, STOPS_BAD),
    case("vsock-short-packet", vsock_short_packet, STOPS_VSOCK),
    case("all-ones-everywhere", all_ones_everywhere, None),
    case("wrong-widths", wrong_widths, None),
    case("kicks-of-queues-never-set-up", kicks_of_queues_never_set_up, None),
    case("queue-withdrawn", queue_withdrawn, None),
    case("features-not-offered", features_not_offered, None),
    case("rings-over-device-memory", rings_over_device_memory, None),
    case("rings-over-each-other", rings_over_each_other, None),
    case("resets-without-end", resets_without_end, None),
    case("nothing-is-there", nothing_is_there, None),
    case("keyboard-noise", keyboard_noise, None),
    case("serial-flood", serial_flood, None),
    ends(
        "reset",
        |script| {
            script.out(0x602, 1).halt();
        },
        Ending::Reset,
    ),
    ends(
        "triple-fault",
        |script| {
            script.triple_fault();
        },
        Ending::Crash("triple fault"),
    ),
    ends(
        "halt-for-ever",
        |script| {
            script.halt();
        },
        Ending::Killed,
    ),
];

impl Case {
    /// The script: everything works, then the misbehaviour, then everything works again.
    pub(crate) fn script(&self) -> Vec<u8> {
        let mut script = Script::default();
        script.read_disk(GOOD, GOOD_WORD);
        script.say("MISBEHAVING");
        (self.misbehave)(&mut script);
        if let Some((number, _)) = self.stops {
            script.wait(device(number) + STATUS, NEEDS_RESET, NEEDS_RESET).say("STOPPED");
        }
        script.read_disk(GOOD, GOOD_WORD).say("GOOD DISK ANSWERS");
        // A reset must be enough to recover a broken device.
        script.read_disk(BAD, BAD_WORD).say("BAD DISK ANSWERS").say("SURVIVED");
        script.finish()
    }
}

fn descriptor_loop(script: &mut Script) {
    script.start(BAD, 1);
    script.descriptor(RINGS.descriptors(), 0, (BUFFER, 16, NEXT, 1));
    script.descriptor(RINGS.descriptors(), 1, (BUFFER, 16, NEXT, 0));
    script.offer(RINGS, 0, 0);
}

fn descriptor_outside_memory(script: &mut Script) {
    script.start(BAD, 1);
    // Including the space for the answer.
    script.descriptor(RINGS.descriptors(), 0, (0xb000_0000, 16, NEXT, 1));
    script.descriptor(RINGS.descriptors(), 1, (0xd000_0000, 513, WRITE, 0));
    script.offer(RINGS, 0, 0);
}

fn absurd_length(script: &mut Script) {
    script.start(BAD, 1);
    script.descriptor(RINGS.descriptors(), 0, (BUFFER, u32::MAX, NEXT, 1));
    script.descriptor(RINGS.descriptors(), 1, (BUFFER, u32::MAX, WRITE, 0));
    script.offer(RINGS, 0, 0);
}

fn available_index_leaps(script: &mut Script) {
    script.start(BAD, 1);
    script.write16(RINGS.available() + 2, 0x8000).write(device(BAD) + NOTIFY, 0);
}

fn head_outside_table(script: &mut Script) {
    script.start(BAD, 1).offer(RINGS, 0, 0xffff);
}

fn indirect_in_indirect(script: &mut Script) {
    script.start(BAD, 1);
    script.descriptor(RINGS.descriptors(), 0, (BUFFER, 64, INDIRECT, 0));
    script.descriptor(BUFFER, 0, (BUFFER, 64, INDIRECT, 0));
    script.offer(RINGS, 0, 0);
}

fn vsock_short_packet(script: &mut Script) {
    let transmit = Rings { device: VSOCK, queue: 1, size: 64 };
    script.start(VSOCK, 3);
    script.descriptor(transmit.descriptors(), 0, (BUFFER, 43, 0, 0));
    script.offer(transmit, 0, 0);
}

fn all_ones_everywhere(script: &mut Script) {
    for number in [BAD, VSOCK] {
        // The operation's own address is its second word.
        let operation = script.here();
        script.repeat(0x400, |script| {
            script.write(device(number), u32::MAX).add(operation + 4, 4);
        });
        let operation = script.here();
        script.repeat(0x400, |script| {
            script.read_all_widths(device(number)).add(operation + 4, 4);
        });
    }
}

fn wrong_widths(script: &mut Script) {
    script.start(BAD, 1);
    for register in [0x0, 0x14, 0x20, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0xa4, 0x100, 0xffc] {
        script.write8(device(BAD) + register, 0).write16(device(BAD) + register, 0xffff);
        script.write8(device(BAD) + register + 1, 0xff).write(device(BAD) + register + 2, 0);
        script.read_all_widths(device(BAD) + register + 1);
    }
    // Between two devices.
    script.write(device(GOOD) - 2, u32::MAX).read_all_widths(device(GOOD) - 1);
}

fn kicks_of_queues_never_set_up(script: &mut Script) {
    for number in [BAD, VSOCK] {
        let at = device(number);
        script.write(at + STATUS, 0).write(at + NOTIFY, 0);
        script.negotiate(number).write(at + NOTIFY, 0).driver_ok(number);
        for queue in [0, 1, 2, 3, 64, 0xffff, u32::MAX] {
            script.write(at + NOTIFY, queue);
        }
    }
}

fn queue_withdrawn(script: &mut Script) {
    let at = device(VSOCK);
    script.start(VSOCK, 3);
    for queue in 0..3 {
        script.write(at + NOTIFY, queue).write(at + 0x30, queue).write(at + 0x44, 0).write(at + NOTIFY, queue);
    }
    // Another size and address while the device is running.
    script.place(Rings { device: VSOCK, queue: 1, size: 2 }, 0x50_0000, 0x50_1000, 0x50_2000).write(at + NOTIFY, 1);
}

fn features_not_offered(script: &mut Script) {
    let at = device(BAD);
    script.write(at + STATUS, 0).write(at + STATUS, 3);
    script.write(at + 0x24, 1).write(at + 0x20, u32::MAX).write(at + STATUS, 11).wait(at + STATUS, u32::MAX, 3);
    script.write(at + STATUS, 15).wait(at + STATUS, u32::MAX, 3).write(at + NOTIFY, 0);
}

fn rings_over_device_memory(script: &mut Script) {
    script.negotiate(BAD);
    for at in [device(BAD), device(VSOCK), 0xfec0_0000, 0xfee0_0000, 0xffff_f000, 0xbfff_f000] {
        script.place(RINGS, at, at, at).wait(device(BAD) + 0x44, 1, 0);
    }
    script.driver_ok(BAD).write(device(BAD) + NOTIFY, 0);
}

fn rings_over_each_other(script: &mut Script) {
    script.negotiate(BAD);
    let at = RINGS.descriptors();
    script.write(at, 1 << 16).write(at + 4, 0).write(at + 8, 0).write(at + 12, 0);
    script.place(RINGS, at, at, at).driver_ok(BAD);
    script.repeat(20, |script| {
        script.write(device(BAD) + NOTIFY, 0).add(at, 1 << 16);
    });
}

fn resets_without_end(script: &mut Script) {
    script.repeat(100, |script| {
        script.start(BAD, 1);
        script.descriptor(RINGS.descriptors(), 0, (BUFFER, 16, NEXT, 1));
        script.descriptor(RINGS.descriptors(), 1, (BUFFER + 0x2000, 1, WRITE, 0));
        script.offer(RINGS, 0, 0).write(device(BAD) + STATUS, 0).write(device(BAD) + NOTIFY, 0);
    });
}

fn nothing_is_there(script: &mut Script) {
    for address in [0x4000_0000, 0xbfff_fff0, 0xc000_0000, 0xd010_0000, 0xdfff_fffe, 0xe000_0000, 0xffff_0000] {
        script.write8(address, 0xff).write16(address, 0xffff).write(address, u32::MAX).read_all_widths(address);
    }
    for port in [0x0, 0x20, 0x40, 0x61, 0x70, 0xa0, 0x3f0, 0x5ff, 0x601, 0x603, 0xcf8, 0xcfc, 0xffff] {
        script.out_all_widths(port, u32::MAX).in_all_widths(port);
    }
    // Power and reset with values that mean neither.
    for port in [0x600, 0x602] {
        script.out_all_widths(port, 0).in_all_widths(port);
    }
}

fn keyboard_noise(script: &mut Script) {
    for command in (0..=0xff).filter(|command| *command != 0xfe) {
        script.out(0x64, command).out(0x60, command);
    }
    script.repeat(50, |script| {
        script.in_all_widths(0x60).in_all_widths(0x64);
    });
}

fn serial_flood(script: &mut Script) {
    for register in 1..8 {
        script.out_all_widths(0x3f8 + register, 0xffff_ffff).in_all_widths(0x3f8 + register);
    }
    // Out of loopback again.
    script.out(0x3fc, 0).out(0x3fb, 0).out(0x3f9, 0);
    script.repeat(FLOOD_PIECES, |script| {
        script.out_string(0x3f8, 0x10_0000, FLOOD_PIECE);
    });
    script.out(0x3f8, b'\n');
}

/// Each byte is an exit where string instructions are not batched.
const FLOOD_PIECES: u32 = 16;
const FLOOD_PIECE: u32 = 0x4000;
