//! The machine code of go-runewidth, as Go compiles it for x86-64.

use thiserror::Error;

/// Characters of one table. The second table follows the first.
const CHARACTERS: i64 = 0x11_0000;

/// The loop of `initStrictWidthLUT`: for each character `r`, `strictWidthLUT[0][r]` and `[1][r]` from a call of
/// `runeWidthNoLUT` each.
const FILLING: &[Piece] = &[
    Bytes(&[0x31, 0xc0, 0xeb, 0x4e, 0x48, 0x89, 0x44, 0x24, 0x08, 0x31, 0xdb, 0xb9, 1, 0, 0, 0, 0x66, 0x90, 0xe8]),
    Distance,
    Bytes(&[0x48, 0x8b, 0x54, 0x24, 0x08, 0x48, 0x8d, 0x35]),
    Distance,
    Bytes(&[0x88, 0x04, 0x16, 0x48, 0x89, 0xd0, 0xbb, 1, 0, 0, 0, 0x89, 0xd9, 0x66, 0x90, 0xe8]),
    Distance,
    Bytes(&[0x48, 0x8b, 0x54, 0x24, 0x08, 0x48, 0x8d, 0x35]),
    Distance,
    Bytes(&[0x88, 0x04, 0x16, 0x48, 0x8d, 0x42, 0x01, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]),
    // cmp rax, CHARACTERS; jl to the body of the loop.
    Bytes(&[0x48, 0x3d, 0x00, 0x00, 0x11, 0x00, 0x7c, 0xaa]),
];
/// Offset of the number of characters in [`FILLING`], in bytes before its end.
const LIMIT_FROM_END: usize = 6;

/// The end of `Condition.RuneWidth`, with the condition in rax and the character in ebx: a look into the second table
/// or the first, or the call of `runeWidthNoLUT(r, EastAsianWidth, false)` where `StrictEmojiNeutral` is not set.
const LOOKING: &[Piece] = &[
    Bytes(&[
        0x80, 0x78, 0x19, 0x00, 0x74, 0x2e, 0x80, 0x78, 0x18, 0x00, 0x74, 0x14, 0x48, 0x63, 0xcb, 0x48, 0x8d, 0x15,
    ]),
    Distance,
    Bytes(&[0x0f, 0xb6, 0x04, 0x0a, 0x48, 0x83, 0xc4, 0x08, 0x5d, 0xc3, 0x48, 0x63, 0xcb, 0x48, 0x8d, 0x15]),
    Distance,
    Bytes(&[0x0f, 0xb6, 0x04, 0x0a, 0x48, 0x83, 0xc4, 0x08, 0x5d, 0xc3]),
    Bytes(&[0x0f, 0xb6, 0x50, 0x18, 0x89, 0xd8, 0x89, 0xd3, 0x31, 0xc9, 0xe8]),
    Distance,
];

/// Replaces the beginning of [`LOOKING`]: it passes `(r, EastAsianWidth, StrictEmojiNeutral)` to the call of
/// `runeWidthNoLUT` at its end.
const ASKING: &[u8] = &[
    0x0f, 0xb6, 0x48, 0x19, // movzx ecx, byte [rax + 0x19]
    0x0f, 0xb6, 0x50, 0x18, // movzx edx, byte [rax + 0x18]
    0x89, 0xd8, // mov eax, ebx
    0x89, 0xd3, // mov ebx, edx
    0xeb, 0x30, // jmp to the call
];

#[derive(Clone, Copy)]
enum Piece {
    Bytes(&'static [u8]),
    /// A distance of four bytes from its end.
    Distance,
}
use Piece::{Bytes, Distance};

/// Why a program is left unchanged.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Unexpected {
    #[error("it computes no table of widths, or in another way")]
    NoTable,
    #[error("it uses the table of widths in a way this program does not know")]
    OtherUse,
}

/// Where a piece of code was found, and the places its distances lead to, as offsets in the file. Code and data are
/// loaded as far apart as they are in the file or by a constant more, so equal places are equal addresses.
struct Found {
    at: usize,
    targets: Vec<i64>,
}

/// Changes `program` so that it computes a width when it needs one.
pub(crate) fn compute_widths_on_demand(program: &mut [u8]) -> Result<(), Unexpected> {
    let filling = find(program, FILLING).ok_or(Unexpected::NoTable)?;
    let looking = find(program, LOOKING).ok_or(Unexpected::OtherUse)?;
    let [narrow, first, east_asian, second] = filling.targets[..] else { return Err(Unexpected::NoTable) };
    let same = narrow == east_asian && second == first + CHARACTERS && looking.targets == [second, first, narrow];
    if !same || references(program, &[first, second]) != 4 {
        return Err(Unexpected::OtherUse);
    }
    let limit = filling.at + length(FILLING) - LIMIT_FROM_END;
    program[limit..limit + 4].fill(0);
    program[looking.at..looking.at + ASKING.len()].copy_from_slice(ASKING);
    Ok(())
}

fn length(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| if let Bytes(bytes) = piece { bytes.len() } else { 4 }).sum()
}

/// The place of `pieces`, if there is exactly one.
fn find(program: &[u8], pieces: &[Piece]) -> Option<Found> {
    let mut places = (0..program.len()).filter_map(|at| matches(program, at, pieces));
    places.next().filter(|_| places.next().is_none())
}

fn matches(program: &[u8], start: usize, pieces: &[Piece]) -> Option<Found> {
    let (mut at, mut targets) = (start, Vec::new());
    for piece in pieces {
        match piece {
            Bytes(bytes) if program.get(at..)?.starts_with(bytes) => at += bytes.len(),
            Bytes(_) => return None,
            Distance => {
                targets.push(target(program, at)?);
                at += 4;
            }
        }
    }
    Some(Found { at: start, targets })
}

/// Where the distance at `at` leads.
fn target(program: &[u8], at: usize) -> Option<i64> {
    let distance = i32::from_le_bytes(program.get(at..at + 4)?.try_into().ok()?);
    Some(i64::try_from(at).ok()? + 4 + i64::from(distance))
}

/// How often something in `program` could be a distance to one of `places`.
fn references(program: &[u8], places: &[i64]) -> usize {
    (0..program.len()).filter(|&at| target(program, at).is_some_and(|target| places.contains(&target))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: i64 = 0x10_0000;
    const FUNCTION: i64 = 8;
    const LOOKING_AT: usize = 0x300;

    fn lay(program: &mut [u8], start: usize, pieces: &[Piece], targets: &[i64]) {
        let (mut at, mut targets) = (start, targets.iter());
        for piece in pieces {
            match piece {
                Bytes(bytes) => {
                    program[at..at + bytes.len()].copy_from_slice(bytes);
                    at += bytes.len();
                }
                Distance => {
                    let distance = targets.next().unwrap() - i64::try_from(at + 4).unwrap();
                    program[at..at + 4].copy_from_slice(&i32::try_from(distance).unwrap().to_le_bytes());
                    at += 4;
                }
            }
        }
    }

    fn program() -> Vec<u8> {
        let mut program = vec![0xcc; 0x800];
        lay(&mut program, 0x100, FILLING, &[FUNCTION, TABLES, FUNCTION, TABLES + CHARACTERS]);
        lay(&mut program, LOOKING_AT, LOOKING, &[TABLES + CHARACTERS, TABLES, FUNCTION]);
        program
    }

    #[test]
    fn the_table_is_neither_filled_nor_read() {
        let mut changed = program();
        compute_widths_on_demand(&mut changed).unwrap();
        let end = 0x100 + length(FILLING);
        assert_eq!(changed[end - 8..end], [0x48, 0x3d, 0, 0, 0, 0, 0x7c, 0xaa]);
        // The jump leads to the call, the last five bytes.
        let call = LOOKING_AT + length(LOOKING) - 5;
        assert_eq!(LOOKING_AT + ASKING.len() + usize::from(ASKING[ASKING.len() - 1]), call);
        assert_eq!(changed[call], 0xe8);
        let different = changed.iter().zip(program()).filter(|(new, old)| **new != *old).count();
        assert!(different <= ASKING.len() + 4, "{different}");
    }

    #[test]
    fn a_program_that_uses_the_table_elsewhere_stays_as_it_is() {
        let mut other = program();
        lay(&mut other, 0x600, &[Distance], &[TABLES]);
        let before = other.clone();
        assert_eq!(compute_widths_on_demand(&mut other), Err(Unexpected::OtherUse));
        assert_eq!(other, before);
    }

    #[test]
    fn a_program_whose_lookup_calls_something_else_stays_as_it_is() {
        let mut other = program();
        lay(&mut other, LOOKING_AT, LOOKING, &[TABLES + CHARACTERS, TABLES, FUNCTION + 16]);
        assert_eq!(compute_widths_on_demand(&mut other), Err(Unexpected::OtherUse));
    }

    #[test]
    fn a_program_without_the_table_stays_as_it_is() {
        assert_eq!(compute_widths_on_demand(&mut vec![0x90; 4096]), Err(Unexpected::NoTable));
        assert_eq!(compute_widths_on_demand(&mut []), Err(Unexpected::NoTable));
    }
}
