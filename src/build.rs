//! Build script: what the program must know of its own build.
//!
//! It packs the program's own source, so that `cx` can build its agent on a node of another platform, and passes on
//! the hashes of agents that a release builder has made. Both come out the same for the same input.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

/// What `cargo build --bin cx` needs on the node; directories with all that is in them.
const PARTS: [&str; 5] = ["Cargo.toml", "Cargo.lock", "src", "shell", "hooks"];

/// Cargo wants every target of the manifest to exist; nobody runs the tests on a node, so this stands for them.
const TEST_STAND_IN: (&str, &[u8]) = (
    "tests/it/main.rs",
    b"//! The tests stayed at home.\nfn main() {}\n",
);

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let mut files = Vec::new();
    for part in PARTS.iter().filter(|p| root.join(p).exists()) {
        println!("cargo:rerun-if-changed={part}");
        collect(&root, Path::new(part), &mut files)?;
    }
    files.sort();
    fs::write(out.join("source.tar.gz"), pack(&root, &files)?)?;

    println!("cargo:rerun-if-env-changed=CX_AGENT_HASHES");
    let hashes = env::var("CX_AGENT_HASHES").unwrap_or_default();
    if let Some(bad) = hashes.split(',').find(|h| !h.is_empty() && !is_agent_hash(h)) {
        return Err(io::Error::other(format!(
            "CX_AGENT_HASHES: `{bad}` is not of the form os-arch=blake3hex (64 hexadecimal digits)"
        )));
    }
    println!("cargo:rustc-env=CX_AGENT_HASHES={hashes}");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    println!("cargo:rustc-env=CX_TARGET={target}");
    Ok(())
}

fn is_agent_hash(entry: &str) -> bool {
    entry.split_once('=').is_some_and(|(platform, hash)| {
        platform
            .split_once('-')
            .is_some_and(|(os, arch)| !os.is_empty() && !arch.is_empty())
            && hash.len() == 64
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Adds `part` (a file, or all below a directory) to `files`, relative to `root`.
fn collect(root: &Path, part: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !root.join(part).is_dir() {
        files.push(part.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(root.join(part))? {
        collect(root, &part.join(entry?.file_name()), files)?;
    }
    Ok(())
}

/// A gzipped ustar archive of `files`: fixed modes, owners and times, so that the same source gives the same bytes.
fn pack(root: &Path, files: &[PathBuf]) -> io::Result<Vec<u8>> {
    let mut gz = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(6));
    for file in files {
        let name = file
            .to_str()
            .ok_or_else(|| io::Error::other(format!("{file:?} is not UTF-8")))?;
        entry(&mut gz, name, &fs::read(root.join(file))?)?;
    }
    entry(&mut gz, TEST_STAND_IN.0, TEST_STAND_IN.1)?;
    gz.write_all(&[0; 1024])?;
    gz.finish()
}

/// One ustar member (POSIX.1-1988): a header block, then the content padded to whole blocks of 512 bytes.
fn entry(out: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    // The prefix field is left alone: a path of ours that long would be a mistake.
    if name.len() >= 100 {
        return Err(io::Error::other(format!(
            "{name}: paths of 100 bytes or more do not fit the archive"
        )));
    }
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&header)?;
    out.write_all(content)?;
    out.write_all(&[0; 512][..(512 - content.len() % 512) % 512])
}
