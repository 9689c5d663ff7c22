//! Runs a misbehaving guest: `hostile-guest MONITOR [CASE…]`; without a case, runs all.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((monitor, named)) = arguments.split_first() else {
        eprintln!("hostile-guest MONITOR [CASE…]; cases: {}", rorqual_hostile_guest::names().join(" "));
        return ExitCode::from(2);
    };
    let cases =
        if named.is_empty() { rorqual_hostile_guest::names() } else { named.iter().map(String::as_str).collect() };
    let mut failures = 0;
    for case in &cases {
        let begun = Instant::now();
        match rorqual_hostile_guest::run(Path::new(monitor), case) {
            Ok(()) => println!("ok {case} ({} ms)", begun.elapsed().as_millis()),
            Err(reason) => {
                failures += 1;
                println!("FAILED {case}: {reason}");
            }
        }
    }
    println!("{} of {} cases passed", cases.len() - failures, cases.len());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
