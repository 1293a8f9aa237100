//! Build script: what the program must know of its own build.

fn main() {
    println!("cargo:rerun-if-changed=src");
}
