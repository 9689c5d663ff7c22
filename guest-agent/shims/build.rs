//! Links the program without C's start-up code: it has its own entry.

fn main() {
    println!("cargo::rustc-link-arg-bins=-nostartfiles");
    println!("cargo::rustc-link-arg-bins=-nostdlib");
    println!("cargo::rustc-link-arg-bins=-static");
    // Nothing would relocate it when it starts.
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
