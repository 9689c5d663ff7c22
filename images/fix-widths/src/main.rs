//! `rorqual-fix-widths IN OUT`: makes a client of docker start 30 ms sooner.
//!
//! docker and docker-buildx are linked with go-runewidth, which since version 0.0.26 computes the width of every
//! character there is at the start of the program: 2,228,224 widths in some 30 ms of processor time. That is more than
//! all else a `docker` command does on the host. A width can as well be computed when it is asked for, by the same
//! function: the library does so for one of its settings. This program has it do so for all, and the table stays empty.
//!
//! A program that is not as expected is copied unchanged, and a line says so.

use std::fs;
use std::process::ExitCode;

mod code;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(from), Some(to), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: rorqual-fix-widths IN OUT");
        return ExitCode::from(2);
    };
    let result = fs::read(&from).map_err(|error| error.to_string()).and_then(|mut program| {
        if let Err(reason) = code::compute_widths_on_demand(&mut program) {
            println!("{}: unchanged: {reason}", to.display());
        }
        fs::write(&to, program).map_err(|error| format!("cannot write {}: {error}", to.display()))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rorqual-fix-widths: {}: {error}", from.display());
            ExitCode::FAILURE
        }
    }
}
