//! Limits (`ulimit`) that were set for a command, of which a node would know nothing.

/// Soft limits that change how a command ends, as Linux names them, and the option of `ulimit` for each. That of open files is none of them:
/// programs raise it for themselves and lower it again for what they start.
const LIMITS: [(&str, &str); 5] = [
    ("Max cpu time", "-t"),
    ("Max file size", "-f"),
    ("Max data size", "-d"),
    ("Max stack size", "-s"),
    ("Max address space", "-v"),
];

/// Which limit is lower in this process than where its session began, if one is: then somebody set it on the way here, for this command. What
/// a login itself comes with, nodes have limits of their own for. `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub fn lowered() -> Option<&'static str> {
    let leader = session(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
    let of = |process: &str| std::fs::read_to_string(format!("/proc/{process}/limits")).ok();
    lower(&of("self")?, &of(&leader.to_string())?)
}

/// The process that leads the session, by `/proc/PID/stat`; `None` where it is in another PID namespace, and so has no number here.
fn session(stat: &str) -> Option<u32> {
    // After the name, in which anything may stand: state, parent, process group, session.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(3)?.parse().ok().filter(|n| *n != 0)
}

/// Other systems do not show a process's limits to another one.
#[cfg(not(target_os = "linux"))]
pub fn lowered() -> Option<&'static str> {
    None
}

/// Which limit is lower in the first of two `/proc/PID/limits`.
fn lower(this: &str, other: &str) -> Option<&'static str> {
    let soft = |text: &str, name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        let value = line.split_whitespace().next()?;
        Some(value.parse::<u64>().unwrap_or(u64::MAX))
    };
    let lower = |name: &str| Some(soft(this, name)? < soft(other, name)?);
    let found = LIMITS.iter().find(|(name, _)| lower(name) == Some(true));
    found.map(|(_, option)| *option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_outside_of_the_namespace_is_none() {
        assert_eq!(session("7 (a) b) S 1 2 3 0 -1 4194304"), Some(3));
        assert_eq!(session("7 (cx) S 1 2 0 0 -1 4194304"), None);
        assert_eq!(session(""), None);
    }

    #[test]
    fn only_what_was_lowered_counts() {
        let text = |cpu: &str, stack: &str, files: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max cpu time              {cpu}            unlimited            seconds   \n\
                 Max stack size            {stack}              unlimited            bytes     \n\
                 Max open files            {files}                20000                files     \n"
            )
        };
        let usual = text("unlimited", "8388608", "1024");
        for (this, want) in [
            (usual.clone(), None),
            (text("5", "8388608", "1024"), Some("-t")),
            (text("unlimited", "1024", "1024"), Some("-s")),
            (text("unlimited", "unlimited", "20000"), None),
            (text("unlimited", "8388608", "10"), None),
            (String::new(), None),
        ] {
            assert_eq!(lower(&this, &usual), want, "{this}");
        }
        assert_eq!(lower(&text("9", "1", "1"), &text("8", "1", "1")), None);
    }
}
