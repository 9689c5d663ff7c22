//! The block device over a file that is not a whole number of sectors: the guest must never read or change its end, nor
//! change its size.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use rorqual_vmm::devices::VirtioDevice;
use rorqual_vmm::devices::block::{BlockDevice, Disk};

use crate::guest::{Guest, Subject, attack};
use crate::program::Program;
use crate::scratch::in_memory;

const SECTORS: u64 = 64;
const END: [u8; 100] = [0xa5; 100];

struct Block {
    device: BlockDevice,
    file: &'static Image,
    read_only: bool,
}

struct Image {
    file: fs::File,
    writable: Arc<Disk>,
    read_only: Arc<Disk>,
}

/// One file for all runs: the checks hold whatever earlier runs left in it.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let path = tempfile::NamedTempFile::new_in(in_memory()).unwrap().into_temp_path();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        file.write_all_at(&END, SECTORS * 512).unwrap();
        let disk = |read_only| Arc::new(Disk::open(&path, read_only).unwrap());
        Image { file, writable: disk(false), read_only: disk(true) }
    })
}

impl Subject for Block {
    fn device(&mut self) -> &mut dyn VirtioDevice {
        &mut self.device
    }

    fn request(&mut self, program: &mut Program, guest: &mut Guest) {
        let kind = [0, 1, 4, 8, 11, 13, 2, u32::from(program.byte())][program.below(8)];
        let sector = match program.byte() {
            0..=127 => u64::from(program.byte()) % SECTORS,
            128..=223 => u64::from(program.byte()),
            _ => program.long(),
        };
        let mut contents = [kind.to_le_bytes(), [0; 4]].concat();
        contents.extend(sector.to_le_bytes());
        let length = if program.byte() < 200 { u32::from(program.byte() & 15) * 512 } else { program.length() };
        let chain = match kind {
            0 => vec![(16, false), (length, true), (1, true)],
            1 => vec![(16, false), (length, false), (1, true)],
            11 | 13 => {
                let ranges = program.below(4) + 1;
                for _ in 0..ranges {
                    let sectors = if program.byte() < 224 { program.byte().into() } else { program.word() };
                    contents.extend(sector.wrapping_add(u64::from(program.byte())).to_le_bytes());
                    contents.extend(u32::to_le_bytes(sectors));
                    contents.extend(u32::from(program.byte() & 3).to_le_bytes());
                }
                vec![(16, false), (16 * ranges as u32, false), (1, true)]
            }
            8 => vec![(16, false), (20, true), (1, true)],
            _ => vec![(16, false), (1, true)],
        };
        guest.offer(0, &chain, &contents);
    }

    fn host(&mut self, _program: &mut Program) {
        let disk = if self.read_only { &self.file.read_only } else { &self.file.writable };
        assert_eq!(disk.reread_size().unwrap(), SECTORS * 512);
    }

    fn check(&mut self) {
        assert_eq!(
            self.file.file.metadata().unwrap().len(),
            SECTORS * 512 + END.len() as u64,
            "the image changed its size"
        );
        let mut end = [0; END.len()];
        self.file.file.read_exact_at(&mut end, SECTORS * 512).unwrap();
        assert_eq!(end, END, "what lies beyond the last sector was written");
    }
}

pub(crate) fn run(program: &[u8]) {
    let mut program = Program::new(program);
    let file = image();
    let read_only = program.byte() == 1;
    if read_only {
        file.file.write_all_at(&[7; 512], 0).unwrap();
    }
    let disk = if read_only { file.read_only.clone() } else { file.writable.clone() };
    let mut block = Block { device: BlockDevice::new(disk, "a serial beyond 20 bytes"), file, read_only };
    attack(&mut block, &mut program);
    if read_only {
        let mut first = [0; 512];
        file.file.read_exact_at(&mut first, 0).unwrap();
        assert_eq!(first, [7; 512], "a read-only disk was written");
    }
}
