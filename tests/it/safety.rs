//! What a node sends back can neither destroy work nor reach outside the tree.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::harness::{Output, Project, TestEnv, on};
use crate::mcp::Client;

/// Runs `script` on n1, and `meanwhile` here after the script ran there and before the run ends.
fn during(env: &TestEnv, p: &Project, script: &str, meanwhile: impl FnOnce()) -> Output {
    let script = format!("{script}\ntouch $HOME/ready; while [ ! -e $HOME/go ]; do sleep 0.02; done");
    let running = p.start_cx(&on("n1", &script));
    let running = running.until_exists(&env.node("n1").home().join("ready"));
    meanwhile();
    env.node("n1").write("go", "");
    running.wait()
}

/// Whether some file below `dir` holds `text`.
fn holds(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).into_iter().flatten().flatten().any(|e| {
        let path = e.path();
        if path.is_dir() {
            holds(&path, text)
        } else {
            fs::read_to_string(path).is_ok_and(|t| t.contains(text))
        }
    })
}

#[test]
fn what_was_edited_here_during_the_run_is_kept() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[
        ("both", "old\n"),
        ("there", "old\n"),
        ("deleted-there", "old\n"),
        ("deleted-here", "old\n"),
    ]);
    let script = "echo of-the-node > both; echo of-the-node > there; rm deleted-there; echo of-the-node > deleted-here";
    let out = during(&env, &p, script, || {
        p.write("both", "of the person\n");
        p.write("deleted-there", "of the person\n");
        fs::remove_file(p.dir.join("deleted-here")).unwrap();
    });
    let out = out.ok().says("both");
    assert_eq!(p.read("both"), "of the person\n", "{out:?}");
    assert_eq!(p.read("deleted-there"), "of the person\n", "{out:?}");
    assert_eq!(p.read("there"), "of-the-node\n", "{out:?}");
    assert!(!p.has("deleted-here"), "{out:?}");
    assert!(
        holds(&env.home().join(".local/state/cx"), "of-the-node"),
        "the node's version is lost: {out:?}"
    );
}

#[test]
fn a_commit_or_checkout_during_the_run_keeps_everything_here() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "one\n"), ("b", "one\n")]);
    p.git(&["checkout", "-q", "-b", "other"]);
    p.write("b", "other\n");
    p.git(&["commit", "-qam", "other"]);
    p.git(&["checkout", "-q", "main"]);
    let out = during(&env, &p, "echo of-the-node > a", || {
        p.git(&["checkout", "-q", "other"]);
    });
    let out = out.ok();
    assert_eq!(p.read("a"), "one\n", "{out:?}");
    assert_eq!(p.git(&["status", "--porcelain"]), "");
    assert!(
        holds(&env.home().join(".local/state/cx"), "of-the-node"),
        "the node's version is lost: {out:?}"
    );
}

#[test]
fn nothing_is_written_through_a_link() {
    let env = TestEnv::with_nodes(&["n1"]);
    let outside = env.home().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "safe\n").unwrap();
    let p = env.project(&[("dir/file", "old\n"), ("a", "")]);
    symlink(&outside, p.dir.join("link")).unwrap();
    let script = "rm link; mkdir link; echo bad > link/file; echo bad > dir/file; echo bad > dir/new; \
                  ln -s ../outside/file out; ln -s /etc/passwd abs";
    during(&env, &p, script, || {
        fs::remove_dir_all(p.dir.join("dir")).unwrap();
        symlink(&outside, p.dir.join("dir")).unwrap();
    });
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "safe\n");
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        1,
        "something was written outside"
    );
}

#[test]
fn what_would_run_here_later_never_comes_back() {
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", ""), (".envrc", "old\n")]);
    let head = p.git(&["rev-parse", "HEAD"]);
    let script = "mkdir -p .git/hooks .claude .vscode .husky sub/.git/hooks .Claude; echo bad > .git/hooks/post-checkout; \
                  echo bad > .claude/settings.json; echo bad > .envrc; echo bad > .mcp.json; echo bad > .cx.toml; \
                  echo bad > .vscode/tasks.json; echo bad > .husky/pre-commit; echo bad > sub/.git/config; \
                  echo bad > .Claude/settings.json; echo good > good";
    p.on("n1", script).ok();
    assert_eq!(p.read("good"), "good\n");
    let bad: Vec<_> = p.list().into_iter().filter(|l| l.contains("bad")).collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(!p.has(".git/hooks/post-checkout"));
    assert_eq!(p.git(&["rev-parse", "HEAD"]), head);
}

#[test]
fn a_node_cannot_delete_the_tree() {
    let env = TestEnv::with_nodes(&["n1"]);
    let mut files: Vec<_> = (0..300).map(|i| (format!("f{i}"), "x")).collect();
    files.push(("keep".into(), "x"));
    let files: Vec<_> = files.iter().map(|(n, t)| (n.as_str(), *t)).collect();
    let p = env.project(&files);
    let out = p.on("n1", "rm -rf ./*");
    assert!(
        p.has("f0") && p.has("keep"),
        "a mass deletion was applied: {out:?}"
    );
    assert!(!out.said().is_empty(), "{out:?}");
    // That it ended is known, and how.
    let mut client = Client::hello(&env, &p.dir, &[]);
    let said = client.call(
        "offload_to",
        json!({"node_id": "n1", "command": "rm -rf ./*; echo over"}),
    );
    assert!(said.is_error(), "{said:?}");
    assert!(
        said.text().starts_with("over\n[n1 exit 0 ") && said.text().contains("did not come back"),
        "{said:?}"
    );
    assert!(
        said.text().contains("not run it again") && !said.text().contains("--local"),
        "{said:?}"
    );
    assert_eq!(said.field("exit_code"), 0, "{said:?}");
    assert!(p.has("f0") && p.has("keep"));
    client.end();
}

#[test]
fn the_users_files_are_private_here_and_there() {
    use std::os::unix::fs::PermissionsExt;
    let env = TestEnv::with_nodes(&["n1"]);
    let p = env.project(&[("a", "")]);
    p.cx(&["run", "--on", "n1", "--", "true"]).ok();
    for dir in [env.cache(), env.home().join(".local/state/cx")] {
        let mode = fs::metadata(&dir)
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", dir.display());
    }
    let open: Vec<_> = fs::read_dir(env.node("n1").home())
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| is_open(p))
        .collect();
    assert!(open.is_empty(), "others can read {open:?}");
}

/// Whether others can reach a file below.
fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let Ok(meta) = path.symlink_metadata() else {
        return false;
    };
    if meta.is_symlink() || meta.permissions().mode() & 0o005 == 0 {
        return false;
    }
    if meta.is_dir() {
        fs::read_dir(path).unwrap().flatten().any(|e| is_open(&e.path()))
    } else {
        true
    }
}
