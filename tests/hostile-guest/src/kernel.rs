//! The kernel: a few instructions of 32-bit code that execute a script. The script is the machine's initial file
//! system.
//!
//! It starts by the PVH protocol, in flat protected mode without paging or interrupts, and needs no more than a 386. A
//! script is a list of operations of four words each: the operation and three arguments (see
//! [`Operation`](crate::script)).

use std::arch::global_asm;

/// Address of the code in the guest's memory, and of its entry.
const CODE: u32 = 0x10_0000;
/// Address to which the script is copied, so that its own words have known addresses.
pub(crate) const SCRIPT: u32 = 0x30_0000;
const PHYS32_ENTRY: u32 = 18;

global_asm!(
    ".pushsection .rodata.rorqual_hostile_guest, \"a\"",
    ".code32",
    "rorqual_hostile_guest_start:",
    "cld",
    "mov esp, 0x200000",
    // The first module: its address and length.
    "mov eax, dword ptr [ebx + 16]",
    "mov esi, dword ptr [eax]",
    "mov ecx, dword ptr [eax + 8]",
    "add ecx, 3",
    "shr ecx, 2",
    "mov edi, {script}",
    "rep movsd",
    "mov esi, {script}",
    "20:",
    "mov ebx, dword ptr [esi]",
    "mov edi, dword ptr [esi + 4]",
    "mov eax, dword ptr [esi + 8]",
    "mov ecx, dword ptr [esi + 12]",
    "mov edx, edi",
    "add esi, 16",
    "dec ebx",
    "js 90f",
    "jz 31f",
    "dec ebx",
    "jz 32f",
    "dec ebx",
    "jz 33f",
    "dec ebx",
    "jz 34f",
    "dec ebx",
    "jz 35f",
    "dec ebx",
    "jz 36f",
    "dec ebx",
    "jz 37f",
    "dec ebx",
    "jz 38f",
    "dec ebx",
    "jz 39f",
    "dec ebx",
    "jz 40f",
    "dec ebx",
    "jz 41f",
    "dec ebx",
    "jz 42f",
    "dec ebx",
    "jz 43f",
    "jmp 80f",
    // 1 to 3: writes of a byte, two, four.
    "31: mov byte ptr [edi], al",
    "jmp 20b",
    "32: mov word ptr [edi], ax",
    "jmp 20b",
    "33: mov dword ptr [edi], eax",
    "jmp 20b",
    // 4: reads of a byte, two, four.
    "34: mov al, byte ptr [edi]",
    "mov ax, word ptr [edi]",
    "mov eax, dword ptr [edi]",
    "jmp 20b",
    // 5: writes of a byte, two, four to a port.
    "35: out dx, al",
    "cmp ecx, 1",
    "je 20b",
    "out dx, ax",
    "out dx, eax",
    "jmp 20b",
    // 6: reads from a port.
    "36: in al, dx",
    "in ax, dx",
    "in eax, dx",
    "jmp 20b",
    // 7: waits until the masked word has the expected value.
    "37: mov ebp, {patience}",
    "50: mov edx, dword ptr [edi]",
    "and edx, eax",
    "cmp edx, ecx",
    "je 20b",
    "out 0x80, al",
    "dec ebp",
    "jnz 50b",
    "jmp 80f",
    // 8: prints text.
    "38: push esi",
    "mov esi, edi",
    "mov ecx, eax",
    "mov dx, 0x3f8",
    "51: lodsb",
    "out dx, al",
    "dec ecx",
    "jnz 51b",
    "pop esi",
    "jmp 20b",
    // 9: jumps back the given number of times.
    "39: dec dword ptr [esi - 4]",
    "jz 20b",
    "mov esi, edi",
    "jmp 20b",
    // 10: adds to a word.
    "40: add dword ptr [edi], eax",
    "jmp 20b",
    // 11: halts for ever.
    "41: cli",
    "hlt",
    "jmp 41b",
    // 12: a fault with no table of handlers.
    "42: push 0",
    "push 0",
    "lidt [esp]",
    "ud2",
    // 13: a string of bytes to a port.
    "43: push esi",
    "mov esi, eax",
    "rep outsb",
    "pop esi",
    "jmp 20b",
    // The wait timed out: prints the operation.
    "80: mov dx, 0x3f8",
    "mov al, 0x21",
    "out dx, al",
    "mov ecx, 8",
    "81: rol esi, 4",
    "mov eax, esi",
    "and al, 15",
    "add al, 0x41",
    "out dx, al",
    "dec ecx",
    "jnz 81b",
    "mov al, 10",
    "out dx, al",
    // 0: powers off.
    "90: mov dx, 0x600",
    "mov al, 0x34",
    "out dx, al",
    "91: hlt",
    "jmp 91b",
    "rorqual_hostile_guest_end:",
    ".code64",
    ".popsection",
    script = const SCRIPT,
    patience = const 300_000,
);

unsafe extern "C" {
    static rorqual_hostile_guest_start: u8;
    static rorqual_hostile_guest_end: u8;
}

fn code() -> &'static [u8] {
    let (start, end) = (&raw const rorqual_hostile_guest_start, &raw const rorqual_hostile_guest_end);
    // SAFETY: both labels are in one read-only section of this program, the first before the second.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// The kernel as a 64-bit ELF file: its code, and the note that names its entry.
pub(crate) fn vmlinux() -> Vec<u8> {
    const HEADER: u64 = 64;
    const SEGMENT: u64 = 56;
    let code = code();
    let note_at = HEADER + 2 * SEGMENT;
    let mut note = Vec::new();
    for word in [4, 4, PHYS32_ENTRY] {
        note.extend(u32::to_le_bytes(word));
    }
    note.extend(b"Xen\0");
    note.extend(CODE.to_le_bytes());
    let code_at = note_at + note.len() as u64;
    // Identity, then: executable, x86-64, version 1, entry, segments, no sections.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for long in [u64::from(CODE), HEADER, 0] {
        file.extend(long.to_le_bytes());
    }
    file.extend([0; 4]);
    for short in [HEADER as u16, SEGMENT as u16, 2, 64, 0, 0] {
        file.extend(short.to_le_bytes());
    }
    let mut segment = |kind: u32, at: u64, address: u64, bytes: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(7u32.to_le_bytes());
        for long in [at, address, address, bytes, bytes, 4] {
            file.extend(long.to_le_bytes());
        }
    };
    segment(1, code_at, u64::from(CODE), code.len() as u64);
    segment(4, note_at, 0, note.len() as u64);
    file.extend(note);
    file.extend(code);
    file
}
