//! The contents of the data disk, read from its first MiB without mounting it.
//!
//! Field offsets are those of `struct ext4_super_block` (Linux documentation, "Ext4 Disk Layout").

use std::io::{self, Read, Seek, SeekFrom};

/// Label of a data disk's file system, which marks it as ours.
pub(crate) const LABEL: &str = "rorqual-data";
/// A disk whose first bytes, this many, are zero and that has no backup superblock was never used.
const INSPECTED: usize = 1 << 20;
/// Smallest disk that can hold a file system for images.
pub(crate) const SMALLEST_DISK: u64 = 64 << 20;
/// Written to the end of the disk while it is formatted, so that an interrupted format is repeated and its remains are
/// not taken for foreign data.
pub(crate) const FORMATTING: &[u8; 64] = b"rorqual: this disk is being formatted and holds nothing yet     ";

const SUPERBLOCK: usize = 1024;
const MAGIC: [u8; 2] = [0x53, 0xef];
const STATE_VALID: u16 = 1;
const STATE_ERRORS: u16 = 2;
const INCOMPATIBLE_RECOVER: u32 = 0x4;
const INCOMPATIBLE_64BIT: u32 = 0x80;
/// First backup superblock of a file system with 4 KiB blocks: the start of group 1.
const FIRST_BACKUP: u64 = 32768 * 4096;

/// The contents of the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing, or an interrupted format: it may be formatted.
    Blank,
    /// Our file system.
    Ours {
        /// Whether it was unmounted without errors, so that nothing needs repair.
        clean: bool,
        /// Size of the file system in bytes.
        bytes: u64,
    },
    /// Something that must be left alone. The text completes "the data disk holds".
    Foreign(String),
}

/// Inspects a disk of `disk_bytes`.
pub(crate) fn inspect(disk: &mut (impl Read + Seek), disk_bytes: u64) -> io::Result<Content> {
    if disk_bytes < SMALLEST_DISK {
        return Ok(Content::Foreign(format!("too little room: {disk_bytes} bytes of {SMALLEST_DISK} needed")));
    }
    if read_at(disk, disk_bytes - FORMATTING.len() as u64, FORMATTING.len())? == FORMATTING {
        return Ok(Content::Blank);
    }
    let head = read_at(disk, 0, INSPECTED)?;
    if let Some(superblock) = Superblock::read(&head[SUPERBLOCK..]) {
        return Ok(superblock.content());
    }
    if disk_bytes >= FIRST_BACKUP + SUPERBLOCK as u64 {
        let backup = read_at(disk, FIRST_BACKUP, SUPERBLOCK)?;
        if Superblock::read(&backup).is_some() {
            return Ok(Content::Foreign(
                "an ext4 file system whose first superblock is destroyed; a backup of it is at block 32768 \
                 (e2fsck -b 32768)"
                    .to_owned(),
            ));
        }
    }
    match head.iter().position(|byte| *byte != 0) {
        None => Ok(Content::Blank),
        Some(offset) => Ok(Content::Foreign(format!("data other than an ext4 file system (from byte {offset})"))),
    }
}

fn read_at(disk: &mut (impl Read + Seek), offset: u64, length: usize) -> io::Result<Vec<u8>> {
    disk.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; length];
    disk.read_exact(&mut bytes)?;
    Ok(bytes)
}

struct Superblock<'a>(&'a [u8]);

impl<'a> Superblock<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= SUPERBLOCK && bytes[0x38..0x3a] == MAGIC).then_some(Self(bytes))
    }

    fn u16_at(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.0[offset], self.0[offset + 1]])
    }

    fn u32_at(&self, offset: usize) -> u32 {
        u32::from(self.u16_at(offset)) | u32::from(self.u16_at(offset + 2)) << 16
    }

    fn content(&self) -> Content {
        let label: Vec<u8> = self.0[0x78..0x88].iter().copied().take_while(|byte| *byte != 0).collect();
        if label != LABEL.as_bytes() {
            let label = String::from_utf8_lossy(&label);
            return Content::Foreign(format!("an ext4 file system labelled {label:?}, not {LABEL:?}"));
        }
        let features = self.u32_at(0x60);
        let mut blocks = u64::from(self.u32_at(0x4));
        if features & INCOMPATIBLE_64BIT != 0 {
            blocks |= u64::from(self.u32_at(0x150)) << 32;
        }
        // The exponent is at most 6 in a real file system; an invalid one must not overflow.
        let block_bytes = 1024_u64.checked_shl(self.u32_at(0x18)).unwrap_or(u64::MAX);
        let state = self.u16_at(0x3a);
        Content::Ours {
            clean: state & STATE_VALID != 0 && state & STATE_ERRORS == 0 && features & INCOMPATIBLE_RECOVER == 0,
            bytes: blocks.saturating_mul(block_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const DISK: usize = 160 << 20;

    fn with(changes: &[(usize, &[u8])]) -> Content {
        let mut disk = vec![0; DISK];
        for (offset, bytes) in changes {
            disk[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        inspect(&mut Cursor::new(disk), DISK as u64).unwrap()
    }

    fn superblock(state: u16, features: u32, label: &str) -> Vec<u8> {
        let mut bytes = vec![0; SUPERBLOCK];
        bytes[0x4..0x8].copy_from_slice(&40_960_u32.to_le_bytes());
        bytes[0x18..0x1c].copy_from_slice(&2_u32.to_le_bytes());
        bytes[0x38..0x3a].copy_from_slice(&MAGIC);
        bytes[0x3a..0x3c].copy_from_slice(&state.to_le_bytes());
        bytes[0x60..0x64].copy_from_slice(&features.to_le_bytes());
        bytes[0x78..0x78 + label.len()].copy_from_slice(label.as_bytes());
        bytes
    }

    #[test]
    fn a_disk_of_zeros_is_blank() {
        assert_eq!(with(&[]), Content::Blank);
    }

    #[test]
    fn a_single_byte_in_the_first_mebibyte_makes_it_foreign() {
        assert!(matches!(with(&[(INSPECTED - 1, b"x")]), Content::Foreign(_)));
    }

    #[test]
    fn an_unmounted_file_system_of_ours_is_clean() {
        let expected = Content::Ours { clean: true, bytes: 160 << 20 };
        assert_eq!(with(&[(SUPERBLOCK, &superblock(1, 0, LABEL))]), expected);
    }

    #[test]
    fn errors_a_journal_to_replay_or_no_valid_mark_make_it_unclean() {
        for (state, features) in [(0, 0), (3, 0), (1, INCOMPATIBLE_RECOVER)] {
            let content = with(&[(SUPERBLOCK, &superblock(state, features, LABEL))]);
            assert!(matches!(content, Content::Ours { clean: false, .. }), "{state} {features}");
        }
    }

    #[test]
    fn the_high_half_of_the_block_count_is_read_with_64_bits_only() {
        let mut bytes = superblock(1, INCOMPATIBLE_64BIT, LABEL);
        bytes[0x150] = 1;
        let Content::Ours { bytes: large, .. } = with(&[(SUPERBLOCK, &bytes)]) else { panic!("not ours") };
        assert_eq!(large, ((1 << 32) + 40_960) * 4096);
        bytes[0x60..0x64].fill(0);
        assert!(matches!(with(&[(SUPERBLOCK, &bytes)]), Content::Ours { bytes, .. } if bytes == 160 << 20));
    }

    #[test]
    fn another_label_makes_it_foreign() {
        let Content::Foreign(what) = with(&[(SUPERBLOCK, &superblock(1, 0, "photos"))]) else { panic!("not foreign") };
        assert!(what.contains("photos"), "{what}");
    }

    #[test]
    fn a_destroyed_first_superblock_is_not_taken_for_a_blank_disk() {
        let backup = superblock(1, 0, LABEL);
        let Content::Foreign(what) = with(&[(FIRST_BACKUP as usize, &backup)]) else { panic!("not foreign") };
        assert!(what.contains("32768"), "{what}");
    }

    #[test]
    fn an_interrupted_format_is_blank_again() {
        assert_eq!(with(&[(0, b"half a format"), (DISK - FORMATTING.len(), FORMATTING)]), Content::Blank);
    }

    #[test]
    fn a_disk_too_small_is_never_formatted() {
        let content = inspect(&mut Cursor::new(vec![0; 4096]), 4096).unwrap();
        assert!(matches!(content, Content::Foreign(_)));
    }

    #[test]
    fn nonsense_in_a_superblock_is_no_panic() {
        let mut bytes = superblock(1, u32::MAX, LABEL);
        bytes[0x18..0x1c].fill(0xff);
        bytes[0x150..0x154].fill(0xff);
        assert!(matches!(with(&[(SUPERBLOCK, &bytes)]), Content::Ours { bytes: u64::MAX, .. }));
    }
}
