//! `cx gc`: what lies on nodes and here, and how it goes.

use crate::harness::{TestEnv, on};

fn rows(json: &str) -> Vec<(String, String, bool)> {
    let all: serde_json::Value = serde_json::from_str(json).unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let lying = all["lying"].as_array().unwrap().iter();
    lying
        .map(|l| (text(&l["what"]), text(&l["name"]), l["in_use"].as_bool().unwrap()))
        .collect()
}

#[test]
fn mirrors_are_shown_and_collected_but_never_one_in_use() {
    let env = TestEnv::with_nodes(&["n1"]);
    let (idle, busy) = (
        env.named_project("idle", &[("f", "1")]),
        env.named_project("busy", &[("f", "2")]),
    );
    idle.cx(&["run", "--on", "n1", "--", "true"]).ok();
    env.append_config("[node.n1]\nslots = 4\n");
    let up = env.node("n1").home().join("up");
    let mut running = busy
        .start_cx(&on("n1", "touch $HOME/up; sleep 600"))
        .until_exists(&up);
    let list = || rows(&env.cx(&["gc", "--json", "n1"]).ok().stdout());
    let mirror =
        |p: &crate::harness::Project, in_use| ("mirror".to_owned(), p.dir.display().to_string(), in_use);
    assert!(list().contains(&mirror(&idle, false)) && list().contains(&mirror(&busy, true)));
    assert!(list().iter().any(|(what, _, in_use)| what == "agent" && *in_use));

    let dry = env
        .cx(&["gc", "--max-size", "0", "--dry-run", "n1"])
        .ok()
        .stdout();
    assert!(dry.contains("would go") && dry.contains("in use"), "{dry}");
    assert!(list().contains(&mirror(&idle, false)));

    let gone = env.cx(&["gc", "--max-size", "0", "n1"]).ok().stdout();
    assert!(gone.contains("removed"), "{gone}");
    let left = list();
    assert!(
        !left.contains(&mirror(&idle, false)) && left.contains(&mirror(&busy, true)),
        "{left:?}"
    );
    assert!(running.is_running());
    running.signal("-TERM");
    running.wait();

    let again = idle.cx(&["run", "--on", "n1", "--", "cat", "f"]).ok();
    assert_eq!(again.stdout(), "1");
    env.cx(&["gc", "nowhere"])
        .exits(1)
        .complains("not a configured node");
    env.cx(&["gc", "--older", "soon"])
        .exits(2)
        .complains("is not an age");
}
