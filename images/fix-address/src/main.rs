//! `rorqual-fix-address IN OUT`: links a position-independent x86-64 program to a fixed address.
//!
//! Debian builds dockerd position-independent. At each start the loader then writes 330,964 addresses into 8 MB of it,
//! and each page it writes to is a page fault. Under User Mode Linux that costs half a second. This program does
//! the same work once: it writes the addresses for one load address into the file, drops those relocations, and marks
//! the file as not position-independent. Code uses relative addresses and does not change.

use std::process::ExitCode;

mod elf;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(from), Some(to), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: rorqual-fix-address IN OUT");
        return ExitCode::from(2);
    };
    let result = std::fs::read(&from).map_err(|error| error.to_string()).and_then(|mut program| {
        let count = elf::fix_address(&mut program, elf::LOAD_ADDRESS).map_err(|error| error.to_string())?;
        std::fs::write(&to, program).map_err(|error| format!("cannot write {}: {error}", to.display()))?;
        Ok(count)
    });
    match result {
        Ok(count) => {
            println!("{}: {count} addresses written", to.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rorqual-fix-address: {}: {error}", from.display());
            ExitCode::FAILURE
        }
    }
}
