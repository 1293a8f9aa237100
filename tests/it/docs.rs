//! `cx completions` and `cx man`.

use std::fs;

use crate::harness::TestEnv;

#[test]
fn every_shell_can_read_its_completions() {
    let env = TestEnv::new();
    for (shell, check) in [
        ("bash", &["--norc", "-euc", ". ./it; complete -p cx"][..]),
        ("zsh", &["-f", "-n", "./it"]),
        ("fish", &["-N", "-c", "source ./it; complete -C 'cx setup cl'"]),
    ] {
        let text = env.cx(&["completions", shell]).ok().stdout();
        fs::write(env.home().join("it"), &text).unwrap();
        let out = env.run(env.command(shell, &env.home()).args(check), b"").ok();
        assert_eq!(out.stderr(), "", "{shell}");
        assert!(shell != "fish" || out.stdout().starts_with("claude"), "{out:?}");
        assert!(text.contains("require-remote"), "{shell}");
    }
    env.cx(&["completions", "cobol"]).exits(2);
}

#[test]
fn manual_pages_name_the_options_and_the_exit_codes() {
    let env = TestEnv::new();
    let page = env.cx(&["man"]).ok().stdout();
    assert!(
        page.contains(".TH cx 1") && page.contains("76 when it had to run"),
        "{page}"
    );
    let page = env.cx(&["man", "nodes", "add"]).ok().stdout();
    assert!(
        page.contains("\\-\\-yes") && page.contains("cx nodes add"),
        "{page}"
    );
    for unknown in [
        &["man", "frobnicate"][..],
        &["man", "agent"],
        &["man", "nodes", "x"],
    ] {
        env.cx(unknown).exits(2).complains("there is no command");
    }
}
