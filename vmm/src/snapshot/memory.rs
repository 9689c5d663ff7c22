//! The memory file of a snapshot: the guest's regions one after the other, holes where they are zero.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress};

use super::document::{FileIdentity, MemoryRecord};

/// Memory is checked, summed and reported in pieces of this many bytes.
pub const PIECE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
/// Bytes of an entry of `/proc/<pid>/pagemap`, and its bits for a page that is in memory or swapped out.
const PAGEMAP_ENTRY_BYTES: usize = 8;
const PAGEMAP_POPULATED: u64 = 0b11 << 62;

/// Called after each piece with the bytes done and the total; an error ends the writing.
pub type Progress<'a> = dyn FnMut(u64, u64) -> io::Result<()> + 'a;

/// Writes all of `memory`, which must not change meanwhile. Everything is on the disk when this returns.
///
/// `pagemap` is `/proc/self/pagemap`, which lists pages of a private mapping that were touched and are in no file.
pub fn write(
    memory: &GuestMemoryMmap,
    pagemap: &File,
    file: &File,
    progress: &mut Progress<'_>,
) -> io::Result<MemoryRecord> {
    let total: u64 = memory.iter().map(GuestMemoryRegion::len).sum();
    file.set_len(total)?;
    let mut pieces = Vec::with_capacity(total.div_ceil(PIECE_BYTES as u64) as usize);
    let mut buffer = vec![0; PIECE_BYTES];
    let mut file_offset = 0;
    for region in memory.iter() {
        let mut at = 0;
        while at < region.len() {
            let piece = &mut buffer[..PIECE_BYTES.min((region.len() - at) as usize)];
            let sum = if may_have_data(region, at, piece.len(), pagemap)? {
                region.read_slice(piece, MemoryRegionAddress(at)).map_err(io::Error::other)?;
                write_piece(piece, file, file_offset)?
            } else {
                None
            };
            pieces.push(sum);
            at += piece.len() as u64;
            file_offset += piece.len() as u64;
            progress(file_offset, total)?;
        }
    }
    file.sync_all()?;
    let metadata = file.metadata()?;
    Ok(MemoryRecord {
        bytes: total,
        file: FileIdentity::of(&metadata),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        pieces,
    })
}

/// Writes the pages of a piece that are not zero; returns the checksum of the piece, or nothing if all are.
fn write_piece(piece: &[u8], file: &File, offset: u64) -> io::Result<Option<u32>> {
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut written = false;
    let mut run: Option<usize> = None;
    for (number, page) in piece.chunks(PAGE_BYTES).enumerate() {
        let at = number * PAGE_BYTES;
        match (is_zero(page), run) {
            (false, None) => run = Some(at),
            (true, Some(start)) => {
                file.write_all_at(&piece[start..at], offset + start as u64)?;
                (run, written) = (None, true);
            }
            _ => {}
        }
    }
    if let Some(start) = run {
        file.write_all_at(&piece[start..], offset + start as u64)?;
        written = true;
    }
    Ok(written.then(|| crc32fast::hash(piece)))
}

/// False only if the piece is certainly zero: neither its file nor its mapping has a page there.
fn may_have_data(region: &vm_memory::GuestRegionMmap, at: u64, bytes: usize, pagemap: &File) -> io::Result<bool> {
    if let Some(backing) = region.file_offset()
        && has_data(backing.file(), backing.start() + at, bytes as u64)?
    {
        return Ok(true);
    }
    let host = region.get_host_address(MemoryRegionAddress(at)).map_err(io::Error::other)?;
    let mut entries = vec![0; bytes / PAGE_BYTES * PAGEMAP_ENTRY_BYTES];
    pagemap.read_exact_at(&mut entries, (host as usize / PAGE_BYTES * PAGEMAP_ENTRY_BYTES) as u64)?;
    let populated =
        |entry: &[u8]| entry.try_into().is_ok_and(|entry| u64::from_ne_bytes(entry) & PAGEMAP_POPULATED != 0);
    Ok(entries.chunks(PAGEMAP_ENTRY_BYTES).any(populated))
}

/// Whether the file has anything but a hole in `bytes` at `start`.
fn has_data(file: &File, start: u64, bytes: u64) -> io::Result<bool> {
    let offset = i64::try_from(start).map_err(io::Error::other)?;
    match lseek(file.as_fd(), offset, Whence::SeekData) {
        Ok(data) => Ok(data.cast_unsigned() < start + bytes),
        // A hole from there to the end.
        Err(Errno::ENXIO) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Checks the memory file against its record: by its identity if the file was not touched since, else by reading all of
/// it. The error names what is wrong.
pub fn check(file: &File, record: &MemoryRecord) -> Result<(), String> {
    let failed = |error: io::Error| format!("its memory cannot be read: {error}");
    let metadata = file.metadata().map_err(failed)?;
    if metadata.len() != record.bytes {
        return Err(format!("its memory has {} bytes instead of {}", metadata.len(), record.bytes));
    }
    if record.pieces.len() as u64 != record.bytes.div_ceil(PIECE_BYTES as u64) {
        return Err("the number of pieces of its memory differs from its document".to_owned());
    }
    let untouched =
        FileIdentity::of(&metadata) == record.file && (metadata.ctime(), metadata.ctime_nsec()) == record.changed;
    if untouched {
        return Ok(());
    }
    let mut buffer = vec![0; PIECE_BYTES];
    let mut offset = 0;
    for sum in &record.pieces {
        let piece = &mut buffer[..PIECE_BYTES.min((record.bytes - offset) as usize)];
        let sound = match sum {
            None => {
                !has_data(file, offset, piece.len() as u64).map_err(failed)? || {
                    file.read_exact_at(piece, offset).map_err(failed)?;
                    piece.iter().all(|byte| *byte == 0)
                }
            }
            Some(sum) => {
                file.read_exact_at(piece, offset).map_err(failed)?;
                crc32fast::hash(piece) == *sum
            }
        };
        if !sound {
            return Err(format!("its memory is damaged at byte {offset} to {}", offset + piece.len() as u64));
        }
        offset += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestAddress;

    use super::*;
    use crate::arch::x86_64::layout::{MemoryPages, make_memory, map_saved_memory};

    fn saved(memory: &GuestMemoryMmap) -> (File, MemoryRecord) {
        let file = tempfile::tempfile().unwrap();
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let record = write(memory, &pagemap, &file, &mut |_, _| Ok(())).unwrap();
        (file, record)
    }

    fn filled() -> GuestMemoryMmap {
        let memory = make_memory(64 << 20, MemoryPages::Ordinary).unwrap();
        for at in [0, 4096, 5 << 20, (64 << 20) - 8] {
            memory.write_obj(at + 1, GuestAddress(at)).unwrap();
        }
        memory
    }

    #[test]
    fn memory_comes_back_and_zeroes_take_no_room() {
        let (file, record) = saved(&filled());
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
        assert_eq!(record.pieces.iter().filter(|sum| sum.is_some()).count(), 3);
        check(&file, &record).unwrap();
        let again = map_saved_memory(file, 64 << 20).unwrap();
        for at in [0, 4096, 5 << 20, (64 << 20) - 8] {
            assert_eq!(again.read_obj::<u64>(GuestAddress(at)).unwrap(), at + 1);
        }
        assert_eq!(again.read_obj::<u64>(GuestAddress(7 << 20)).unwrap(), 0);
    }

    #[test]
    fn what_a_restored_machine_wrote_is_saved_and_its_file_is_not_touched() {
        let (file, record) = saved(&filled());
        let again = map_saved_memory(file.try_clone().unwrap(), 64 << 20).unwrap();
        again.write_obj(77u64, GuestAddress(30 << 20)).unwrap();
        again.write_obj(78u64, GuestAddress(5 << 20)).unwrap();
        let (second, second_record) = saved(&again);
        check(&second, &second_record).unwrap();
        let third = map_saved_memory(second, 64 << 20).unwrap();
        let read = |at: u64| third.read_obj::<u64>(GuestAddress(at)).unwrap();
        assert_eq!((read(30 << 20), read(5 << 20), read(0), read(4096)), (77, 78, 1, 4097));
        check(&file, &record).unwrap();
    }

    #[test]
    fn a_touched_file_is_read_and_found_sound_or_damaged() {
        let (file, record) = saved(&filled());
        // The same byte again: another change time, the same contents.
        let mut byte = [0];
        file.read_exact_at(&mut byte, 4096).unwrap();
        file.write_all_at(&byte, 4096).unwrap();
        check(&file, &record).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 4096).unwrap();
        assert!(check(&file, &record).unwrap_err().contains("damaged at byte 0"));
        file.write_all_at(&byte, 4096).unwrap();
        file.write_all_at(&[1], 20 << 20).unwrap();
        assert!(check(&file, &record).unwrap_err().contains("damaged at byte 20971520"));
        file.set_len(1 << 20).unwrap();
        assert!(check(&file, &record).unwrap_err().contains("instead of"));
    }

    #[test]
    fn writing_ends_when_it_is_cancelled() {
        let file = tempfile::tempfile().unwrap();
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mut cancelled = |_done: u64, _total: u64| Err(io::ErrorKind::Interrupted.into());
        assert!(write(&filled(), &pagemap, &file, &mut cancelled).is_err());
    }
}
