//! What a machine is and how busy it is: used for this machine, and by the agent for its node.
//!
//! On Linux everything is read from `/proc` and `/etc` directly, which costs a twentieth of a millisecond; elsewhere
//! `sysinfo` knows.

mod env;
mod load;
pub mod tools;

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::plan::Platform;
use crate::proto::Facts;

pub use env::{login_env, print_env};
pub use load::{cpu_at_a_glance, load_kept};
pub use tools::{find_program, has_module, is_program, version_of};

/// What this machine is. Tools are looked up in `path`; what takes reading is kept in `kept`.
pub fn facts(path: &OsStr, kept: &Path) -> Facts {
    Facts {
        tools: tools::present(path),
        ..bare_facts(path, kept)
    }
}

/// The same without the tools.
pub fn bare_facts(path: &OsStr, kept: &Path) -> Facts {
    let uname = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let told =
        uname_program(path).unwrap_or_else(|| format!("{} {}", text(uname.sysname()), text(uname.machine())));
    let (os, arch) = crate::node::agents::platform_of(&told);
    let libc = if os == "linux" {
        libc_version(kept)
    } else {
        String::new()
    };
    let hostname = text(uname.nodename());
    Facts {
        no_namespace: None,
        machine: machine_id(&hostname),
        hostname,
        platform: Platform { os, arch, libc },
        cores: cores(),
        memory: load::memory_total(),
        tools: Vec::new(),
        slots: 0,
    }
}

/// Only the cores and the memory, which a load is measured by.
pub fn size() -> Facts {
    Facts {
        cores: cores(),
        memory: load::memory_total(),
        ..Facts::default()
    }
}

/// What a `uname` of the account's own says: where one stands in front of the system's, the tools there build for what it tells.
fn uname_program(path: &OsStr) -> Option<String> {
    let program = find_program(OsStr::new("uname"), path)?;
    if ["/bin/uname", "/usr/bin/uname"]
        .iter()
        .any(|p| program == Path::new(p))
    {
        return None;
    }
    let said = tools::output(
        Command::new(program).args(["-s", "-m"]).env("PATH", path),
        Duration::from_secs(2),
    )?;
    (said.split_whitespace().count() == 2).then_some(said)
}

/// What the machine is that cx was called on; what takes reading is kept in `kept`.
pub fn own_facts(kept: &Path) -> Facts {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut facts = facts(&path, kept);
    facts.slots = crate::agent::default_slots(facts.cores);
    facts
}

/// Cores that may be used: those that are there, are online, and are not taken away by affinity or a cgroup's quota.
fn cores() -> u32 {
    let allowed = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let listed = std::fs::read_to_string("/proc/cpuinfo")
        .map(|t| t.lines().filter(|l| l.starts_with("processor")).count() as u32)
        .unwrap_or(0);
    if listed == 0 { allowed } else { allowed.min(listed) }
}

/// A hash of the machine's id, or of its name where it has none.
fn machine_id(hostname: &str) -> String {
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .find_map(|f| std::fs::read(f).ok().filter(|b| b.len() >= 32))
        .unwrap_or_else(|| hostname.as_bytes().to_vec());
    blake3::hash(&id).to_hex()[..16].to_owned()
}

/// The C library of a Linux machine, found without starting anything: this program is static and can't ask its own. A glibc
/// is some megabytes to look through: what was found is kept in `kept` for as long as the file is the same.
fn libc_version(kept: &Path) -> String {
    let dirs = [
        "/lib64",
        "/lib",
        "/usr/lib64",
        "/usr/lib",
        "/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
    ];
    for dir in dirs
        .into_iter()
        .chain(["/lib/riscv64-linux-gnu", "/lib/arm-linux-gnueabihf"])
    {
        let file = Path::new(dir).join("libc.so.6");
        let Ok(meta) = std::fs::metadata(&file) else {
            continue;
        };
        let stamp = format!(
            "{}:{}:{}:{}",
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.ctime_nsec()
        );
        if let Ok(text) = std::fs::read_to_string(kept)
            && let Some(version) = text.strip_prefix(&stamp).and_then(|t| t.strip_prefix(' '))
        {
            return version.to_owned();
        }
        if let Some(v) = std::fs::read(&file).ok().and_then(|b| glibc_in(&b)) {
            let version = format!("glibc {v}");
            let _ = crate::paths::write_atomic(kept, format!("{stamp} {version}").as_bytes(), 0o600);
            return version;
        }
    }
    let musl = std::fs::read_dir("/lib").is_ok_and(|d| {
        d.flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with("ld-musl-"))
    });
    if musl { "musl".into() } else { String::new() }
}

/// The version in the banner that glibc carries.
fn glibc_in(bytes: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"GNU C Library";
    const RELEASE: &[u8] = b"release version ";
    let at = find(bytes, BANNER)?;
    let rest = &bytes[at..(at + 200).min(bytes.len())];
    let at = find(rest, RELEASE)? + RELEASE.len();
    let version: String = rest[at..]
        .iter()
        .map(|b| *b as char)
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let version = version.trim_end_matches('.').to_owned();
    (!version.is_empty()).then_some(version)
}

/// Where `needle`, which is not empty, first stands in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    // The first byte is rare enough in a library for this to be fast.
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|b| *b == needle[0]) {
        let at = from + at;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_of_glibc_is_read() {
        let b = b"xxGG GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\nCopyright";
        assert_eq!(glibc_in(b).as_deref(), Some("2.36"));
        assert_eq!(glibc_in(b"GNU C Library"), None);
    }

    #[test]
    fn a_uname_of_the_accounts_own_is_believed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let uname = dir.path().join("uname");
        std::fs::write(&uname, "#!/bin/sh\necho Linux aarch64\n").unwrap();
        std::fs::set_permissions(&uname, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        // A process that another test forks just now may hold the file open, and then it can't be started.
        let kept = dir.path().join("kept");
        let is_believed = (0..50).any(|_| {
            let platform = bare_facts(OsStr::new(&path), &kept).platform;
            (platform.os.as_str(), platform.arch.as_str()) == ("linux", "arm64")
        });
        assert!(is_believed);
        std::fs::write(&uname, "#!/bin/sh\necho what\n").unwrap();
        assert_eq!(
            bare_facts(OsStr::new(&path), &kept).platform,
            bare_facts(OsStr::new("/usr/bin:/bin"), &kept).platform
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let f = own_facts(&dir.path().join("kept"));
        assert_eq!(
            own_facts(&dir.path().join("kept")),
            f,
            "the second time from what was kept"
        );
        assert_eq!(f.platform.os, "linux");
        assert!(f.cores >= 1 && f.memory > 1 << 20 && !f.hostname.is_empty());
        assert!(
            f.platform.libc.starts_with("glibc 2.") || f.platform.libc == "musl",
            "{:?}",
            f.platform
        );
    }
}
