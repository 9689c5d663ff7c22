//! The vsock device with its streams, and programs on the host at their other ends.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::OnceLock;

use rorqual_vmm::devices::VirtioDevice;
use rorqual_vmm::devices::vsock::VsockDevice;
use rorqual_vmm::fuzzing::vsock_held;
use tempfile::TempDir;

use crate::guest::{Guest, Subject, attack};
use crate::program::Program;
use crate::scratch::in_memory;

const GUEST: u64 = 3;
const HOST: u64 = 2;
/// Ports of the host that are listened on.
const LISTENED: [u32; 2] = [1024, 1025];
/// First port the device gives to streams the host opens.
const FIRST_HOST_PORT: u32 = 1 << 30;
/// Programs on the host hold so many sockets at most.
const MAX_SOCKETS: usize = 32;
/// `OWN_BUFFER_BYTES` of the device: what one stream may keep.
const MAX_KEPT: usize = 256 * 1024;
/// `MAX_STREAMS`, and answers: those that stop the taking of packets, and one for each stream.
const MAX_STREAMS: usize = 4096;
const MAX_ANSWERS: usize = 1024 + MAX_STREAMS;

struct Vsock {
    device: VsockDevice,
    host: &'static Host,
    sockets: Vec<UnixStream>,
}

/// The host's side, for all runs. Each run ends by accepting what waits at its listeners.
struct Host {
    directory: TempDir,
    listeners: Vec<UnixListener>,
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let directory = tempfile::tempdir_in(in_memory()).unwrap();
        let listen = |port: u32| {
            let listener = UnixListener::bind(directory.path().join(format!("v_{port}"))).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        Host { listeners: LISTENED.map(listen).into(), directory }
    })
}

impl Vsock {
    fn path() -> PathBuf {
        host().directory.path().join("v")
    }

    /// Repeats the same packets, so that leaks add up.
    fn many(program: &mut Program, guest: &mut Guest) {
        let (header, count) = (Self::header(program), program.byte() & 31);
        let end = program.flag();
        for number in 0..u32::from(count) {
            let mut header = header.clone();
            // A stream of its own each, or one for all.
            if end {
                header[16..20].copy_from_slice(&(6000 + number).to_le_bytes());
                guest.offer(1, &[(44, false)], &header);
                header[30] = 3;
                guest.offer(1, &[(44, false)], &header);
            } else {
                let length = 0x4000u32;
                header[24..28].copy_from_slice(&length.to_le_bytes());
                guest.offer_over(1, &header, length);
            }
        }
    }

    fn keep(&mut self, socket: UnixStream) {
        socket.set_nonblocking(true).unwrap();
        if self.sockets.len() < MAX_SOCKETS {
            self.sockets.push(socket);
        }
    }

    fn header(program: &mut Program) -> Vec<u8> {
        let choice = program.byte();
        let (source, destination) = match choice {
            0..=239 => (GUEST, HOST),
            240..=247 => (program.long(), HOST),
            _ => (GUEST, program.long()),
        };
        let guest_port = u32::from(program.byte() & 3) + 5000;
        let host_port = match program.byte() {
            0..=99 => LISTENED[program.below(2)],
            100..=229 => FIRST_HOST_PORT + u32::from(program.byte() & 7),
            _ => program.word(),
        };
        let operation = program.byte();
        let operation = if operation < 248 { u16::from(operation & 7) } else { program.short() };
        let (allocated, forwarded) = match program.byte() {
            0..=127 => (256 * 1024, 0),
            128..=191 => (u32::from(program.short()), program.short().into()),
            _ => (program.word(), program.word()),
        };
        let mut header = Vec::new();
        header.extend(source.to_le_bytes());
        header.extend(destination.to_le_bytes());
        header.extend(guest_port.to_le_bytes());
        header.extend(host_port.to_le_bytes());
        header.extend([0; 4]);
        header.extend(u16::from(choice & 63 != 63).to_le_bytes());
        header.extend(operation.to_le_bytes());
        header.extend(u32::from(program.byte() & 3).to_le_bytes());
        header.extend(u32::to_le_bytes(allocated));
        header.extend(u32::to_le_bytes(forwarded));
        header
    }
}

impl Subject for Vsock {
    fn device(&mut self) -> &mut dyn VirtioDevice {
        &mut self.device
    }

    fn request(&mut self, program: &mut Program, guest: &mut Guest) {
        let choice = program.byte();
        if choice >= 248 {
            return Self::many(program, guest);
        }
        if choice.is_multiple_of(4) {
            let room = if choice < 224 { 4096 } else { program.length() % 0x8000 };
            let cut: &[(u32, bool)] = &[(44, true), (room, true)];
            return guest.offer(0, if choice & 4 == 0 { cut } else { &[(3776, true)] }, &[]);
        }
        let mut contents = Self::header(program);
        let length = match choice & 0x30 {
            0 => 0,
            0x10 => u32::from(program.byte()),
            0x20 => 0x3000,
            _ => program.length(),
        };
        let claimed = if choice & 64 == 0 { length } else { program.length() };
        contents[24..28].copy_from_slice(&claimed.to_le_bytes());
        guest.offer(1, &[(44, false), (length, false)][..if length == 0 { 1 } else { 2 }], &contents);
    }

    fn host(&mut self, program: &mut Program) {
        let action = program.byte();
        let which = usize::from(action >> 3);
        match action & 7 {
            0 | 1 if self.sockets.len() < MAX_SOCKETS => {
                let Ok(mut socket) = UnixStream::connect(Self::path()) else { return };
                let line = match program.byte() {
                    0..=223 => format!("CONNECT {}\n", 5000 + program.below(4)).into_bytes(),
                    _ => program.bytes(40).to_vec(),
                };
                let _ = socket.write(&line);
                self.keep(socket);
            }
            2 => {
                let listener = &self.host.listeners[which % LISTENED.len()];
                while let Ok((socket, _)) = listener.accept() {
                    if self.sockets.len() < MAX_SOCKETS {
                        socket.set_nonblocking(true).unwrap();
                        self.sockets.push(socket);
                    }
                }
            }
            _ if self.sockets.is_empty() => {}
            action => {
                let which = which % self.sockets.len();
                match action {
                    3 => drop(self.sockets.swap_remove(which)),
                    4 => {
                        let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][program.below(3)];
                        let _ = self.sockets[which].shutdown(how);
                    }
                    5 => {
                        let mut space = vec![0; 1 << program.below(19)];
                        for socket in &mut self.sockets {
                            let _ = socket.read(&mut space);
                        }
                    }
                    _ => {
                        let _ = self.sockets[which].write(&vec![7; 1 << program.below(17)]);
                    }
                }
            }
        }
    }

    fn check(&mut self) {
        let held = vsock_held(&self.device);
        let bounded = held.streams <= MAX_STREAMS + 1
            && held.answers <= MAX_ANSWERS
            && held.turns <= 2 * MAX_STREAMS
            && held.turns <= 64 + 2 * held.streams
            && held.kept_most <= MAX_KEPT;
        assert!(bounded, "the device holds too much: {held:?}");
    }
}

pub(crate) fn run(program: &[u8]) {
    let device = VsockDevice::new(GUEST, &Vsock::path()).unwrap();
    attack(&mut Vsock { device, host: host(), sockets: Vec::new() }, &mut Program::new(program));
    for listener in &host().listeners {
        while listener.accept().is_ok() {}
    }
}
