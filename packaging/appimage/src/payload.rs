//! Finds the SquashFS in the file and identifies the build.

use std::{fs::File, io, os::unix::fs::FileExt};

use anyhow::{Result, bail};

/// Bytes of the SquashFS superblock: the magic, and enough to distinguish builds (it contains the creation time and the
/// size).
const MAGIC: &[u8; 4] = b"hsqs";
const SUPERBLOCK: usize = 96;

/// The end of the ELF file at the beginning: the end of its section header table, which linkers write last.
pub(crate) fn offset(file: &File) -> Result<u64> {
    let mut header = [0; 64];
    read(file, &mut header, 0)?;
    let number = |at: usize, length: usize| {
        header[at..at + length].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    if &header[..4] != b"\x7fELF" || header[4] != 2 || header[5] != 1 {
        bail!("it does not begin as an AppImage");
    }
    // e_shoff, e_shentsize, e_shnum of the ELF-64 header.
    let end = number(40, 8).checked_add(number(58, 2) * number(60, 2));
    let mut magic = [0; 4];
    match end {
        Some(end) if read(file, &mut magic, end).is_ok() && &magic == MAGIC => Ok(end),
        _ => bail!("nothing is packed in it"),
    }
}

/// A name for the payload at `offset`, different for each build.
pub(crate) fn build(file: &File, offset: u64) -> io::Result<String> {
    let mut superblock = [0; SUPERBLOCK];
    read(file, &mut superblock, offset)?;
    // FNV-1a, 64 bits, only to distinguish builds.
    let hash = superblock
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    Ok(format!("{}-{hash:016x}", env!("CARGO_PKG_VERSION")))
}

fn read(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An ELF header whose section table ends at 80, followed by a payload.
    fn image(behind: &[u8]) -> File {
        let mut header = [0_u8; 80];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[40] = 64;
        header[58] = 8;
        header[60] = 2;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&header).unwrap();
        file.write_all(behind).unwrap();
        file
    }

    #[test]
    fn what_is_packed_begins_where_the_program_ends() {
        assert_eq!(offset(&image(b"hsqs and more")).unwrap(), 80);
    }

    #[test]
    fn a_file_that_was_cut_off_says_so() {
        assert!(offset(&image(b"")).is_err());
        assert!(offset(&image(b"something else")).is_err());
    }

    #[test]
    fn another_build_has_another_name() {
        let packed = |byte: u8| build(&image(&[byte; SUPERBLOCK]), 80).unwrap();
        assert_eq!(packed(1), packed(1));
        assert_ne!(packed(1), packed(2));
    }
}
