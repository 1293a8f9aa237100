//! How busy this machine is.

use std::path::Path;

use crate::proto::Load;

/// A sample of the CPU's counters older than this says nothing about now; a younger one than the second says too little.
const SAMPLE_MS: (u64, u64) = (200, 60_000);

/// The load now. CPU use is counted since the last call, whose counters lie in `kept`; without a usable one it is what the load
/// average says: whoever asks has no time to wait.
/// Slots are left at 0.
pub fn load_kept(kept: &Path, disk: &Path) -> Load {
    let (load1, memory_free) = (load1(), memory_free());
    Load {
        cpu: cpu(kept),
        load1,
        memory_free,
        disk_free: disk_free(disk),
        running: 0,
        slots: 0,
    }
}

/// The kept sample: time in milliseconds, busy ticks, all ticks, and the answer then in thousandths.
fn kept_sample(kept: &Path) -> Option<(u64, u64, u64, u64)> {
    let text = std::fs::read_to_string(kept).ok()?;
    let mut n = text.split_whitespace().map(|w| w.parse::<u64>().ok());
    Some((n.next()??, n.next()??, n.next()??, n.next()??))
}

fn cpu(kept: &Path) -> f32 {
    let now_ms = crate::agent::now_ms();
    let Some(now) = ticks() else { return 0.0 };
    let before = kept_sample(kept);
    let (mut was, mut last) = (None, None);
    if let Some((ms, busy, total, percent)) = before {
        let age = now_ms.saturating_sub(ms);
        if age < SAMPLE_MS.0 {
            // Asked again at once: the last answer holds.
            last = Some(percent as f32 / 10.0);
        } else if age <= SAMPLE_MS.1 && total <= now.1 {
            was = Some((busy, total));
        }
    }
    if let Some(last) = last {
        return last;
    }
    let percent = match was {
        Some(was) if now.1 > was.1 => {
            let (busy, total) = (now.0.saturating_sub(was.0), now.1 - was.1);
            (busy as f32 * 100.0 / total as f32).clamp(0.0, 100.0)
        }
        _ => by_load_average(),
    };
    let text = format!("{now_ms} {} {} {}", now.0, now.1, (percent * 10.0) as u64);
    let _ = crate::paths::write_atomic(kept, text.as_bytes(), 0o600);
    percent
}

/// CPU in use, per cent, without waiting or writing: since the kept sample where that is of use, else as the load average has it.
pub fn cpu_at_a_glance(kept: &Path) -> f32 {
    let sample = kept_sample(kept);
    if let Some((ms, busy, total, percent)) = sample {
        let age = crate::agent::now_ms().saturating_sub(ms);
        if age < SAMPLE_MS.0 {
            return percent as f32 / 10.0;
        }
        if age <= SAMPLE_MS.1
            && let Some(now) = ticks()
            && now.1 > total
        {
            return now.0.saturating_sub(busy) as f32 * 100.0 / (now.1 - total) as f32;
        }
    }
    by_load_average()
}

/// CPU in use, per cent, as the load average of the last minute has it.
fn by_load_average() -> f32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f32;
    (load1() * 100.0 / cores).min(100.0)
}

/// Busy and total ticks of all cores since the start of the machine.
#[cfg(target_os = "linux")]
fn ticks() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let n: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .filter_map(|w| w.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guest time is counted in user already.
    let total: u64 = n.iter().take(8).sum();
    let idle = n.get(3)? + n.get(4).unwrap_or(&0);
    Some((total.saturating_sub(idle), total))
}

/// There are no counters to keep: one short measurement, as if counted in thousandths.
#[cfg(not(target_os = "linux"))]
fn ticks() -> Option<(u64, u64)> {
    None
}

#[cfg(target_os = "linux")]
fn load1() -> f32 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|w| w.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(not(target_os = "linux"))]
fn load1() -> f32 {
    sysinfo::System::load_average().one as f32
}

#[cfg(target_os = "linux")]
fn meminfo(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = text.lines().find_map(|l| {
        l.strip_prefix(key)?
            .strip_prefix(':')?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    kb.unwrap_or(0) * 1024
}

/// Memory in bytes; 0 where that is not known.
#[cfg(target_os = "linux")]
pub fn memory_total() -> u64 {
    meminfo("MemTotal")
}

#[cfg(target_os = "linux")]
fn memory_free() -> u64 {
    meminfo("MemAvailable")
}

/// Memory in bytes; 0 where that is not known.
#[cfg(not(target_os = "linux"))]
pub fn memory_total() -> u64 {
    let mut s = sysinfo::System::new();
    s.refresh_memory();
    s.total_memory()
}

#[cfg(not(target_os = "linux"))]
fn memory_free() -> u64 {
    let mut s = sysinfo::System::new();
    s.refresh_memory();
    s.available_memory()
}

/// Bytes free for this user where `dir` (or the nearest directory above it that exists) lies.
fn disk_free(dir: &Path) -> u64 {
    dir.ancestors()
        .find_map(|d| rustix::fs::statvfs(d).ok())
        .map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize))
}
