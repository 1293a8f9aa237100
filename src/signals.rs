//! Signals between systems: numbers differ (SIGUSR1 is 10 on Linux and 30 on macOS), names do not. On the wire and on disk
//! a signal has Linux's number; this module is what serde reads and writes such a number with.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Added to the number of a signal that only the sender's system has, so that it is no other signal by accident.
const FOREIGN: i32 = 1000;

/// Linux's numbers (signal(7), x86 and ARM) and this system's; up to 15 all others are the same everywhere.
const NUMBERS: &[(i32, i32)] = &[
    (1, libc::SIGHUP),
    (2, libc::SIGINT),
    (3, libc::SIGQUIT),
    (4, libc::SIGILL),
    (5, libc::SIGTRAP),
    (6, libc::SIGABRT),
    (7, libc::SIGBUS),
    (8, libc::SIGFPE),
    (9, libc::SIGKILL),
    (10, libc::SIGUSR1),
    (11, libc::SIGSEGV),
    (12, libc::SIGUSR2),
    (13, libc::SIGPIPE),
    (14, libc::SIGALRM),
    (15, libc::SIGTERM),
    (17, libc::SIGCHLD),
    (18, libc::SIGCONT),
    (19, libc::SIGSTOP),
    (20, libc::SIGTSTP),
    (21, libc::SIGTTIN),
    (22, libc::SIGTTOU),
    (23, libc::SIGURG),
    (24, libc::SIGXCPU),
    (25, libc::SIGXFSZ),
    (26, libc::SIGVTALRM),
    (27, libc::SIGPROF),
    (28, libc::SIGWINCH),
    (29, libc::SIGIO),
    (31, libc::SIGSYS),
];

/// Writes this system's signal `n`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(n: &i32, to: S) -> Result<S::Ok, S::Error> {
    outward(*n, NUMBERS, cfg!(target_os = "linux")).serialize(to)
}

/// Reads a signal as this system's.
///
/// # Errors
/// Those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    Ok(inward(
        i32::deserialize(from)?,
        NUMBERS,
        cfg!(target_os = "linux"),
    ))
}

/// Linux's number of the local signal `n`. `same`: this is Linux, whose own numbers all pass (real-time signals, too).
fn outward(n: i32, numbers: &[(i32, i32)], same: bool) -> i32 {
    match numbers.iter().find(|(_, here)| *here == n) {
        Some((wire, _)) => *wire,
        None if same => n,
        None => n.saturating_add(FOREIGN),
    }
}

fn inward(n: i32, numbers: &[(i32, i32)], same: bool) -> i32 {
    match numbers.iter().find(|(wire, _)| *wire == n) {
        Some((_, here)) => *here,
        None if same => n,
        // One of ours that came back.
        None if n > FOREIGN => n - FOREIGN,
        None => n.saturating_add(FOREIGN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What differs on macOS, from its signal.h.
    const MACOS: &[(i32, i32)] = &[
        (7, 10),
        (10, 30),
        (12, 31),
        (17, 20),
        (18, 19),
        (19, 17),
        (20, 18),
        (23, 16),
        (29, 23),
        (31, 12),
    ];

    fn macos() -> Vec<(i32, i32)> {
        let other = |n: i32| MACOS.iter().find(|(w, _)| *w == n).map_or(n, |(_, h)| *h);
        NUMBERS.iter().map(|(wire, _)| (*wire, other(*wire))).collect()
    }

    #[test]
    fn a_name_stays_the_same_between_systems() {
        let mac = macos();
        // USR1, TSTP, CONT and BUS of a Mac are the same here, and the other way round.
        for (wire, here) in [(10, 30), (20, 18), (18, 19), (7, 10), (2, 2), (15, 15)] {
            assert_eq!(outward(here, &mac, false), wire);
            assert_eq!(inward(wire, &mac, false), here);
        }
        for n in 1..=31 {
            assert_eq!(inward(outward(n, &mac, false), &mac, false), n, "{n}");
        }
        // SIGINFO of a Mac (29) is not taken for SIGIO, nor SIGPWR of Linux (30) for SIGUSR1.
        assert_eq!(outward(29, &mac, false), 1029);
        assert_eq!(inward(30, &mac, false), 1030);
    }

    #[test]
    fn no_number_is_there_twice() {
        for table in [NUMBERS.to_vec(), macos()] {
            let mut here: Vec<_> = table.iter().map(|(_, here)| *here).collect();
            here.sort_unstable();
            here.dedup();
            assert_eq!(here.len(), NUMBERS.len());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn on_linux_all_numbers_are_its_own() {
        for n in 1..=64 {
            assert_eq!(outward(n, NUMBERS, true), n);
            assert_eq!(inward(n, NUMBERS, true), n);
        }
    }
}
