//! Links the library without the C library: it is loaded beside the one the kernel brings.

fn main() {
    println!("cargo::rustc-link-arg-cdylib=-nostdlib");
}
