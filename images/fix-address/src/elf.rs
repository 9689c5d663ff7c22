//! The ELF file (System V ABI, gABI chapters 4 and 5; AMD64 supplement §4.4).

use thiserror::Error;

/// Load address: the usual one of x86-64 programs that are not position-independent.
pub(crate) const LOAD_ADDRESS: u64 = 0x40_0000;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const SHT_DYNAMIC: u32 = 6;
const SHT_DYNSYM: u32 = 11;
const SHF_ALLOC: u64 = 2;
const STT_TLS: u8 = 6;
const DF_1_PIE: u64 = 0x0800_0000;
const RELOCATION_BYTES: usize = 24;
const SYMBOL_BYTES: usize = 24;

/// Dynamic tags whose value is an address: `PLTGOT`, `HASH`, `STRTAB`, `SYMTAB`, `RELA`, `INIT`, `FINI`, `JMPREL`,
/// `INIT_ARRAY`, `FINI_ARRAY`, `PREINIT_ARRAY`, `GNU_HASH`, `VERSYM`, `VERDEF`, `VERNEED`.
const ADDRESS_TAGS: &[u64] =
    &[3, 4, 5, 6, 7, 12, 13, 23, 25, 26, 32, 0x6fff_fef5, 0x6fff_fff0, 0x6fff_fffc, 0x6fff_fffe];
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_PLTRELSZ: u64 = 2;
const DT_JMPREL: u64 = 23;
const DT_TEXTREL: u64 = 22;
const DT_RELR: u64 = 36;
const DT_RELACOUNT: u64 = 0x6fff_fff9;
const DT_FLAGS_1: u64 = 0x6fff_fffb;

const R_GLOB_DAT: u64 = 6;
const R_JUMP_SLOT: u64 = 7;
const R_RELATIVE: u64 = 8;
const R_TPOFF64: u64 = 18;

/// Why a program is left unchanged.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ElfError {
    #[error("it is not a position-independent x86-64 program")]
    NotPie,
    #[error("it has what this program does not know how to move: {0}")]
    Unknown(String),
    #[error("it is damaged: something points outside the file, at {0:#x}")]
    Outside(u64),
}

struct Program<'a> {
    bytes: &'a mut [u8],
    /// Address, offset and size in the file of each loaded segment.
    segments: Vec<(u64, u64, u64)>,
}

/// Links `bytes` to `base` and returns the number of addresses written.
pub(crate) fn fix_address(bytes: &mut [u8], base: u64) -> Result<usize, ElfError> {
    let mut program = Program { bytes, segments: Vec::new() };
    if program.bytes.get(..6) != Some(b"\x7fELF\x02\x01") || program.u16(16)? != ET_DYN || program.u16(18)? != EM_X86_64
    {
        return Err(ElfError::NotPie);
    }
    program.move_segments(base)?;
    let sections = program.sections()?;
    let dynamic = sections.iter().find(|section| section.kind == SHT_DYNAMIC).ok_or(ElfError::NotPie)?;
    let count = program.relocate(dynamic, base)?;
    for symbols in sections.iter().filter(|section| section.kind == SHT_DYNSYM) {
        program.move_symbols(symbols, base)?;
    }
    program.move_dynamic(dynamic, base)?;
    program.move_sections(base)?;
    program.put_u16(16, ET_EXEC)?;
    program.add(24, base)?;
    Ok(count)
}

#[derive(Clone, Copy)]
struct Section {
    kind: u32,
    offset: u64,
    size: u64,
}

impl Section {
    /// Offsets of its records.
    fn records(self, bytes: usize) -> impl Iterator<Item = u64> {
        (self.offset..self.offset.saturating_add(self.size)).step_by(bytes)
    }
}

impl Program<'_> {
    fn move_segments(&mut self, base: u64) -> Result<(), ElfError> {
        let (table, size, count) = (self.u64(32)?, u64::from(self.u16(54)?), u64::from(self.u16(56)?));
        let mut interpreter = false;
        for header in (0..count).map(|number| table + number * size) {
            let kind = self.u32(header)?;
            interpreter |= kind == PT_INTERP;
            if kind == PT_LOAD {
                self.segments.push((self.u64(header + 16)?, self.u64(header + 8)?, self.u64(header + 32)?));
            }
            if kind != PT_GNU_STACK {
                self.add(header + 16, base)?;
                self.add(header + 24, base)?;
            }
        }
        // A library has no interpreter; it must stay relocatable.
        if interpreter { Ok(()) } else { Err(ElfError::NotPie) }
    }

    fn sections(&self) -> Result<Vec<Section>, ElfError> {
        let (table, size, count) = (self.u64(40)?, u64::from(self.u16(58)?), u64::from(self.u16(60)?));
        (0..count)
            .map(|number| table + number * size)
            .map(|at| Ok(Section { kind: self.u32(at + 4)?, offset: self.u64(at + 24)?, size: self.u64(at + 32)? }))
            .collect()
    }

    fn move_sections(&mut self, base: u64) -> Result<(), ElfError> {
        let (table, size, count) = (self.u64(40)?, u64::from(self.u16(58)?), u64::from(self.u16(60)?));
        for header in (0..count).map(|number| table + number * size) {
            if self.u64(header + 8)? & SHF_ALLOC != 0 {
                self.add(header + 16, base)?;
            }
        }
        Ok(())
    }

    /// Writes the values of relative relocations and drops these, and moves the others.
    fn relocate(&mut self, dynamic: &Section, base: u64) -> Result<usize, ElfError> {
        let value = |program: &Self, wanted: u64| -> Result<Option<u64>, ElfError> {
            for entry in dynamic.records(16) {
                if program.u64(entry)? == wanted {
                    return program.u64(entry + 8).map(Some);
                }
            }
            Ok(None)
        };
        for (tag, name) in [(DT_RELR, "packed relocations"), (DT_TEXTREL, "relocations in code")] {
            if value(self, tag)?.is_some() {
                return Err(ElfError::Unknown(name.to_owned()));
            }
        }
        let mut written = 0;
        for (table, bytes, drop_relative) in [(DT_RELA, DT_RELASZ, true), (DT_JMPREL, DT_PLTRELSZ, false)] {
            let (Some(table), Some(bytes)) = (value(self, table)?, value(self, bytes)?) else { continue };
            let offset = self.offset(table)?;
            let mut kept = offset;
            for entry in (offset..offset + bytes).step_by(RELOCATION_BYTES) {
                let (target, kind, addend) = (self.u64(entry)?, self.u64(entry + 8)?, self.u64(entry + 16)?);
                match kind & 0xffff_ffff {
                    R_RELATIVE if drop_relative => {
                        let at = self.offset(target)?;
                        self.put_u64(at, addend.wrapping_add(base))?;
                        written += 1;
                    }
                    R_GLOB_DAT | R_JUMP_SLOT | R_TPOFF64 => {
                        if kind & 0xffff_ffff == R_JUMP_SLOT {
                            self.move_slot(target, base)?;
                        }
                        self.put_u64(kept, target.wrapping_add(base))?;
                        self.put_u64(kept + 8, kind)?;
                        self.put_u64(kept + 16, addend)?;
                        kept += RELOCATION_BYTES as u64;
                    }
                    other => return Err(ElfError::Unknown(format!("relocations of type {other}"))),
                }
            }
            if drop_relative {
                for entry in dynamic.records(16) {
                    match self.u64(entry)? {
                        DT_RELASZ => self.put_u64(entry + 8, kept - offset)?,
                        DT_RELACOUNT => self.put_u64(entry + 8, 0)?,
                        _ => {}
                    }
                }
            }
        }
        Ok(written)
    }

    /// Moves the address a slot of the procedure linkage table starts with: the stub that has the loader look the
    /// function up at its first call. A loader that binds every function at the start overwrites it.
    fn move_slot(&mut self, slot: u64, base: u64) -> Result<(), ElfError> {
        let at = self.offset(slot)?;
        match self.u64(at)? {
            0 => Ok(()),
            _ => self.add(at, base),
        }
    }

    fn move_symbols(&mut self, symbols: &Section, base: u64) -> Result<(), ElfError> {
        for symbol in symbols.records(SYMBOL_BYTES) {
            let kind = self.bytes.get(index(symbol) + 4).copied().ok_or(ElfError::Outside(symbol))? & 0xf;
            let section = self.u16(symbol + 6)?;
            // Undefined, absolute and thread-local symbols are no addresses.
            if section != 0 && section < 0xff00 && kind != STT_TLS {
                self.add(symbol + 8, base)?;
            }
        }
        Ok(())
    }

    fn move_dynamic(&mut self, dynamic: &Section, base: u64) -> Result<(), ElfError> {
        for entry in dynamic.records(16) {
            match self.u64(entry)? {
                tag if ADDRESS_TAGS.contains(&tag) => self.add(entry + 8, base)?,
                DT_FLAGS_1 => {
                    let flags = self.u64(entry + 8)? & !DF_1_PIE;
                    self.put_u64(entry + 8, flags)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Offset in the file of the byte at an address (before the move).
    fn offset(&self, address: u64) -> Result<u64, ElfError> {
        self.segments
            .iter()
            .find(|(start, _, size)| (*start..start.saturating_add(*size)).contains(&address))
            .map(|(start, offset, _)| address - start + offset)
            .ok_or(ElfError::Outside(address))
    }

    fn array<const N: usize>(&self, at: u64) -> Result<[u8; N], ElfError> {
        self.bytes.get(index(at)..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(ElfError::Outside(at))
    }

    fn u16(&self, at: u64) -> Result<u16, ElfError> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: u64) -> Result<u32, ElfError> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: u64) -> Result<u64, ElfError> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn put(&mut self, at: u64, value: &[u8]) -> Result<(), ElfError> {
        let place = self.bytes.get_mut(index(at)..).and_then(|rest| rest.get_mut(..value.len()));
        place.ok_or(ElfError::Outside(at))?.copy_from_slice(value);
        Ok(())
    }

    fn put_u16(&mut self, at: u64, value: u16) -> Result<(), ElfError> {
        self.put(at, &value.to_le_bytes())
    }

    fn put_u64(&mut self, at: u64, value: u64) -> Result<(), ElfError> {
        self.put(at, &value.to_le_bytes())
    }

    fn add(&mut self, at: u64, base: u64) -> Result<(), ElfError> {
        let value = self.u64(at)?.wrapping_add(base);
        self.put_u64(at, value)
    }
}

/// An offset of the file as an index; one that does not fit is outside any file.
fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX - 64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Moves a program, asserts that both do the same when asked for `--list`, and returns the moved program with the
    /// number of addresses written.
    fn moved(original: &Path) -> (Vec<u8>, usize) {
        let mut program = std::fs::read(original).unwrap();
        let written = fix_address(&mut program, LOAD_ADDRESS).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let moved = folder.path().join("moved");
        std::fs::write(&moved, &program).unwrap();
        std::fs::set_permissions(&moved, std::fs::Permissions::from_mode(0o755)).unwrap();
        let list = |path: &Path| Command::new(path).arg("--list").output().unwrap();
        let (before, after) = (list(original), list(&moved));
        assert!(before.status.success(), "{before:?}");
        assert!(after.status.success(), "{after:?}");
        assert_eq!(before.stdout, after.stdout);
        (program, written)
    }

    #[test]
    fn a_moved_program_does_what_it_did() {
        // The test executable itself is position-independent and has the standard library's thousands of addresses.
        let (mut program, written) = moved(&std::env::current_exe().unwrap());
        assert!(written > 100, "{written}");
        assert_eq!(fix_address(&mut program, LOAD_ADDRESS), Err(ElfError::NotPie));
    }

    #[test]
    fn functions_looked_up_at_their_first_call_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (source, built) = (folder.path().join("lazy.c"), folder.path().join("lazy"));
        std::fs::write(&source, "#include <stdlib.h>\nint main(void) { return atoi(getenv(\"STATUS\")); }\n").unwrap();
        let compiled = Command::new("cc")
            .args(["-fPIE", "-pie", "-Wl,-z,lazy", "-Wl,-z,norelro", "-fcf-protection=none", "-o"])
            .args([&built, &source])
            .status();
        assert!(compiled.unwrap().success());
        let mut program = std::fs::read(&built).unwrap();
        fix_address(&mut program, LOAD_ADDRESS).unwrap();
        // Overwriting the file keeps its mode, that of an executable.
        std::fs::write(&built, &program).unwrap();
        let status = Command::new(&built).env("STATUS", "42").env_remove("LD_BIND_NOW").status().unwrap();
        assert_eq!(status.code(), Some(42), "{status}");
    }

    #[test]
    fn what_is_no_program_is_refused_and_a_cut_one_is_called_damaged() {
        assert_eq!(fix_address(&mut b"#!/bin/sh\n".to_vec(), LOAD_ADDRESS), Err(ElfError::NotPie));
        let mut program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        program.truncate(4096);
        assert!(matches!(fix_address(&mut program, LOAD_ADDRESS), Err(ElfError::Outside(_))));
    }
}
