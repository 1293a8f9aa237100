//! Whatever is killed, and whenever: every file on both sides is whole, and the next run is right without help.
//!
//! `CX_IT_KILLS` is how many times something is killed, `CX_IT_SEED` which times and what.

use std::fs;
use std::time::Duration;

use crate::harness::{CX, Project, TestEnv, on, wait_for};
use crate::signals::GONE;

/// Chance that can be had again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(otherwise)
}

/// A file's text: many lines that are all alike, so that a part of it, or a mix of two, is seen.
fn text(what: &str) -> String {
    format!("{what}\n").repeat(300)
}

/// Changes some files here, among them ones that runs made.
fn edit(p: &Project, round: u64, chance: &mut Chance) {
    for _ in 0..3 {
        p.write(&format!("f{}", chance.below(8)), &text(&format!("here {round}")));
    }
    let _ = fs::remove_file(p.dir.join(format!("made/{}", chance.below(4))));
    if chance.below(3) == 0 {
        let _ = fs::remove_dir_all(p.dir.join("made"));
    }
}

/// A command that changes, makes and deletes files.
fn command(round: u64, chance: &mut Chance) -> String {
    let (a, b) = (chance.below(8), chance.below(8));
    format!(
        "w() {{ i=0; while [ $i -lt 300 ]; do echo \"$1\"; i=$((i+1)); done; }}; mkdir -p made; \
         for n in 0 1 2 3; do w 'there {round}' > made/$n; sleep 0.0{}; done; w 'there {round}' > f{a}; rm -f f{b}; w out",
        chance.below(10)
    )
}

fn assert_whole(p: &Project, what: &str) {
    fn look(dir: &std::path::Path, what: &str) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if entry.file_name() == ".git" {
            } else if path.is_dir() {
                look(&path, what);
            } else {
                let name = path.display();
                assert!(!name.to_string().contains(".cx-"), "{what}: {name} was left");
                let text = fs::read_to_string(&path).unwrap();
                let first = text.lines().next().unwrap_or_default().to_owned();
                assert!(
                    text.lines().count() == 300 && text.lines().all(|l| l == first),
                    "{what}: {name} is not whole"
                );
            }
        }
    }
    look(&p.dir, what);
}

const SUMS: &str = "find . -name .git -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 cksum";

#[test]
fn whatever_is_killed_both_trees_are_whole_and_the_next_run_is_right() {
    let seed = number("CX_IT_SEED", u64::from(std::process::id()));
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[policy]\nlink_grace = 5\n");
    let names: Vec<String> = (0..8).map(|i| format!("f{i}")).collect();
    let first = text("first");
    let files: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), first.as_str())).collect();
    let p = env.project(&files);
    p.on("n1", "true").ok();
    for round in 0..number("CX_IT_KILLS", 12) {
        edit(&p, round, &mut chance);
        let running = p.start_cx(&on("n1", &command(round, &mut chance)));
        std::thread::sleep(Duration::from_millis(chance.below(900)));
        let victims: Vec<String> = match chance.below(3) {
            0 => vec![format!("{} cx itself", running.pid())],
            1 => env.processes(),
            _ => env.node("n1").with_agents(),
        };
        let mut what = format!("seed {seed}, round {round}: nothing was there to be killed");
        if !victims.is_empty() {
            let victim = &victims[chance.below(victims.len() as u64) as usize];
            what = format!("seed {seed}, round {round}, killed {victim:.80}");
            cx::demo::processes::kill(victim.split(' ').next().unwrap().parse().unwrap());
        }
        let ended = running.wait();
        assert_whole(&p, &format!("{what}: {ended:?}"));
        let next = p.on("n1", SUMS);
        let here = p.sh(SUMS).ok().stdout();
        assert!(
            next.status() == 0 && next.stdout() == here,
            "{what}: {ended:?}\n{next:?}\nhere: {here}"
        );
        assert_whole(&p, &what);
    }
    env.node("n1").assert_empty_within(GONE);
}

#[test]
fn the_run_after_a_killed_one_sees_nothing_of_it() {
    // Over a stream of its own, and over a lent one.
    for hold in [0, 600] {
        let env = TestEnv::with_nodes(&["n1"]);
        env.append_config(&format!("[policy]\nhold = {hold}\n[node.n1]\nslots = 4\n"));
        let p = env.project(&[("f1", "old\n"), ("f2", "old\n")]);
        let ready = env.node("n1").home().join("ready");
        for round in 0..4 {
            p.on("n1", "true").ok();
            if hold > 0 {
                // One for each of the two: the second need not wait for a session.
                let go = env.node("n1").home().join("go");
                let other = p.start_cx(&on(
                    "n1",
                    "touch $HOME/ready; until test -e $HOME/go; do sleep 0.01; done",
                ));
                let other = other.until_exists(&ready);
                p.on("n1", "true").ok();
                fs::write(&go, "").unwrap();
                other.wait().ok();
                fs::remove_file(&ready).unwrap();
                fs::remove_file(&go).unwrap();
            }
            let running = p.start_cx(&on(
                "n1",
                "echo new > f1; touch $HOME/ready; sleep 30; echo new > f2",
            ));
            let running = running.until_exists(&ready);
            running.signal("-KILL");
            let next = p.on("n1", "cat f1 f2; cp f1 out").ok();
            running.wait();
            let what = format!("hold {hold}, round {round}");
            assert_eq!(next.stdout(), "old\nold\n", "{what}: {next:?}");
            assert_eq!(
                (p.read("f1"), p.read("out")),
                ("old\n".into(), "old\n".into()),
                "{what}"
            );
            fs::remove_file(&ready).unwrap();
            fs::remove_file(p.dir.join("out")).unwrap();
        }
    }
}

#[test]
fn what_a_killed_cx_could_not_put_in_place_is_listed() {
    let env = TestEnv::with_nodes(&["n1"]);
    let names: Vec<String> = (1000..3000).map(|i| format!("f{i}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "old\n")).collect();
    let p = env.project(&files);
    let mut round = 0;
    loop {
        round += 1;
        assert!(round < 20, "it never was caught in the middle");
        let text = format!("new {round}\n");
        let mut running = p.start_cx(&on("n1", &format!("for f in f*; do echo new {round} > $f; done")));
        while running.is_running() && p.read("f1000") != text {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.signal("-STOP");
        let is_caught = running.is_running() && p.read("f2999") != text;
        if is_caught {
            p.write("f1000", "edited here\n");
            p.write("f2999", "edited here\n");
        }
        running.signal(if is_caught { "-KILL" } else { "-CONT" });
        running.wait();
        if is_caught {
            break;
        }
    }
    p.on("n1", "true")
        .ok()
        .says("1 of it can't be in place (cx conflicts)");
    assert_eq!(p.read("f1000"), "edited here\n");
    assert_eq!(p.read("f2999"), "edited here\n");
    let list = p.cx(&["conflicts"]).ok().stdout();
    assert!(list.contains(" from n1\n    f2999\n"), "{list}");
}

/// The holder's process.
fn holder(env: &TestEnv) -> u32 {
    wait_for(GONE, || {
        let all = env.processes();
        let found = all.iter().find(|l| l.ends_with(" hold n1"));
        match found.and_then(|l| l.split(' ').next()?.parse().ok()) {
            Some(pid) => Ok(pid),
            None => Err(format!("no holder: {all:#?}")),
        }
    })
}

#[test]
fn a_holder_that_is_killed_costs_the_next_run_nothing() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "1\n")]);
    p.on("n1", "true").ok();
    cx::demo::processes::kill(holder(&env));
    p.write("a", "2\n");
    let out = p.on("n1", "cat a; echo 3 > a").ok();
    assert_eq!((out.stdout(), p.read("a")), ("2\n".into(), "3\n".into()));
    // And there is one again.
    holder(&env);
    assert_eq!(p.on("n1", "cat a").ok().stdout(), "3\n");
}

#[test]
fn a_reader_that_pauses_holds_up_its_own_run_only() {
    let env = TestEnv::with_nodes(&["n1"]);
    env.append_config("[node.n1]\nslots = 4\n");
    let p = env.project(&[("a", "1\n")]);
    p.on("n1", "true").ok();
    holder(&env);
    let script = format!(
        "{CX} run -q --on n1 -- seq 1 3000000 | {{ until [ -e ../go ]; do sleep 0.05; done; cksum; }}"
    );
    let mut command = env.command("sh", &p.dir);
    let paused = crate::harness::Running::start(command.args(["-c", &script]), b"");
    wait_for(GONE, || {
        match env
            .node("n1")
            .processes()
            .iter()
            .any(|l| l.contains("seq 1 3000000"))
        {
            true => Ok(()),
            false => Err("it has not started".to_owned()),
        }
    });
    for i in 0..5 {
        p.write("a", &format!("{i}\n"));
        assert_eq!(p.on("n1", "cat a").ok().stdout(), format!("{i}\n"));
        std::thread::sleep(Duration::from_millis(900));
    }
    fs::write(p.dir.join("../go"), "").unwrap();
    let out = paused.wait().ok();
    assert_eq!(out.stdout(), p.sh("seq 1 3000000 | cksum").ok().stdout());
    assert_eq!(out.stderr(), "");
}
