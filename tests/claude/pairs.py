#!/usr/bin/env python3
"""Pairs of sessions of the real Claude Code client: the same calls under the same rules, without cx and with it.

    tests/claude/pairs.py [--cx target/debug/cx] [--as-uid UID] [--mode MODE] [-k WORD]

With cx the client may run nothing that it would not have run without, and may ask about nothing more. What differs for a known reason
stands in `KNOWN`, below. The client is the one that CX_TEST_CLAUDE names; its questions are answered here, by its own
protocol. Root is needed for the cases with an administrator's settings, which are shown to the client in a mount namespace of its own.
What cannot be tried is named and passed over.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading

from check import HERE, PLAIN, SKIPPED, World
from model import Model

TIMEOUT_S = 240
MODES = ["default", "acceptEdits", "plan", "dontAsk", "bypassPermissions"]
TOOLS = ["pytest", "make", "npm", "cargo", "npx"]
# Stands for cx in the rewritten command: notes that it was there and becomes the tool.
PASSER = r"""#!/bin/sh
echo "$*" >> "$HOME/through"
while :; do
  case $1 in run | --) shift ;; cx) shift ;; --on) shift 2 ;; -q | --local) shift ;; *) break ;; esac
done
exec "$@"
"""

CALLS = [
    "echo first", "pytest -x", "pytest -x 2>&1 | tail -3", "FOO=1 pytest", "CI=1 pytest -x", "timeout 60 pytest",
    ".venv/bin/pytest", "make test && make clean", "npm test", "npm run build", "cargo build --release && cargo fmt", "npx jest",
    "touch a && pytest", "mkdir -p out && pytest > out/log.txt", "pytest > EXTRA/outside.txt", "pytest 2>&1 | tee log",
    "git status && make", "rm -rf build && make", "for f in a b; do pytest $f; done", "(pytest)", "{ pytest; }", "x=$(pytest); echo $x",
    "cx pytest", "cx run -- pytest -x", "cx make deploy", "A=deploy; cx make $A", "cx ls", "pytest EXTRA/a.py", "cat EXTRA/a.txt && pytest", "cat EXTRA/a.txt",
    "ls > out.txt; pytest", "sed -i s/a/b/ a.txt && make", "cp a.txt b.txt && make test", "make deploy",
    "if [ -f a.txt ]; then pytest; fi", "pytest &", "pytest || true; make", "bash -c 'pytest'", "env pytest", "sudo -n make",
    "pytest; echo $?", "cat <<'E' > out.txt\nx\nE\npytest", "git commit -qm x; make", "cp a.txt EXTRA/b.txt && pytest",
    "cd sub && pytest", "cd EXTRA && pytest", "cd sub && CI=1 timeout 60 pytest -x 2>&1 | tail -5", "git stash && make test; git stash pop",
    "for d in sub .; do (cd $d && cargo test); done", "python3 - <<'E'\nprint('pytest')\nE", "python3 - <<E && pytest\nprint('$HOME')\nE",
    "env -C sub make", "make -j$(nproc)", "set -o pipefail; pytest | tail", "if ! cargo build; then echo no; fi", "pytest |& tee log",
    "nohup make &", "sh -ec 'cd sub && make test'", "git diff --name-only | xargs npx eslint; make", "cargo build && ./target/debug/x",
    "source a.txt; pytest", "TMPDIR=EXTRA pytest", "pytest --basetemp=EXTRA/x", "# why\npytest", "pytest =ls", "pytest /proc/self/environ", "pytest \u200b-x",
    "git stash list; pytest", "python3 --version && pytest", "pytest \\\n  -x", "timeout 60 make test || echo $?",
]

ALL = {"allow": ["Bash"]}
SOME = {"allow": ["Bash(pytest:*)", "Bash(make:*)", "Bash(npm test)", "Bash(cargo build:*)"]}
MIXED = {"allow": ["Bash"], "deny": ["Bash(make deploy:*)"], "ask": ["Bash(npm:*)"]}
NOT = {"allow": ["Bash"], "deny": ["Bash(pytest:*)"]}
ASK = {"allow": ["Bash(make:*)", "Bash(pytest:*)"], "ask": ["Bash(pytest -x:*)"]}

# Calls of a session in which every question is answered with "don't ask again".
SAVED = [
    "echo first", "pytest -x", "pytest -y", "FOO=1 pytest", "FOO=1 pytest", "pytest | tail", "make test", "make check", "make deploy",
    "make deploy", "npm run build", "npm run lint", "npm publish", ".venv/bin/pytest", ".venv/bin/pytest", "cargo build", "cargo test",
    "cargo fmt", "timeout 60 make", "env cargo build", "for f in a; do pytest; done", "cd sub && pytest",
]

# Name, where the rules stand, the settings, and what else.
SCENES = [
    ("no rules", "user", {}),
    ("all", "user", {"permissions": ALL}),
    ("some", "user", {"permissions": SOME}),
    ("some of the project", "local", {"permissions": SOME}),
    ("some of a project that is not trusted", "untrusted", {"permissions": SOME}),
    ("mixed", "project", {"permissions": MIXED}),
    ("denied", "user", {"permissions": NOT}),
    ("asked", "user", {"permissions": ASK}),
    ("administrator allows", "managed", {"permissions": SOME}),
    ("administrator denies", "managed", {"permissions": NOT}),
    ("administrator asks", "managed", {"permissions": ASK}),
    ("administrator alone", "managed", {"permissions": {"allow": ["Bash(pytest:*)"]}, "allowManagedPermissionRulesOnly": True}, SOME),
    ("administrator forbids the mode", "managed", {"permissions": {"disableBypassPermissionsMode": "disable", **SOME}}),
    ("administrator forbids hooks", "managed", {"allowManagedHooksOnly": True, "permissions": SOME}),
    ("directories", "user", {"permissions": {**SOME, "additionalDirectories": ["EXTRA"]}}),
    ("directories of the arguments", "arguments", {"permissions": SOME}, ["--add-dir", "EXTRA"]),
    ("saved answers", "local", {"permissions": {"allow": ["Bash(cx pytest *)", "Bash(cx make *)", "Bash(cx npm *)"]}}),
    ("saved answers and a deny", "local", {"permissions": {"allow": ["Bash(cx make *)"], "deny": ["Bash(make deploy)"]}}),
    ("answers are saved", "saved", {}),
    ("all of cx", "user", {"permissions": {"allow": ["Bash(cx:*)"]}}),
    ("sandbox", "user", {"permissions": {}, "sandbox": {"enabled": True, "autoAllowBashIfSandboxed": True}}),
    ("sandbox, asked", "user", {"permissions": SOME, "sandbox": {"enabled": True, "autoAllowBashIfSandboxed": False}}),
    ("sandbox, some outside", "user", {"permissions": SOME, "sandbox": {"enabled": True, "excludedCommands": ["pytest", "make *"]}}),
    ("sandbox, denied", "user", {"permissions": NOT, "sandbox": {"enabled": True}}),
]

# What differs, and why: scene, mode, what becomes of it, text; regular expressions all.
KNOWN = [
    # The hook does not run, so that nobody looks behind a `cx` that the model typed.
    ("administrator forbids hooks", ".", "ran -> (asked|refused)", "^cx "),
    # In plan mode the hook never answers `allow`.
    (".", "plan", "ran -> refused", "^cx "),
    # What a variable holds the client looks up itself; a rule that may concern it is enough to ask.
    (".", ".", "refused -> asked", r"cx make \$A"),
    # Without trust only git knows whether the user's own file counts; a typed `cx` is not taken for covered.
    ("not trusted", ".", "ran -> (asked|refused)", "^cx "),
    # A rule for all of cx does not count: a question, where without cx it is refused.
    ("all of cx", "plan", "refused -> asked", "^cx "),
    # The user's own words: rules that name the command behind cx, as "don't ask again" writes them.
    ("saved answers", ".", "(asked|refused) -> ran", "."),
    ("answers are saved", ".", "asked -> ran", r"pytest -y|pytest \| tail|make (check|test)|60 make|cargo test"),
]


class Session:
    """One session: how each call ended, in the client's words cut short."""

    def __init__(self, options, scene, mode, hooked, calls):
        _, place, settings, *more = scene
        world = World(options.cx)
        self.world, self.options, self.asked = world, options, {}
        self.saves = place == "saved"
        try:
            self.extra = world.path("extra")
            for directory in ("extra", "project/sub", "project/.venv/bin", "etc"):
                os.makedirs(world.path(directory), exist_ok=True)
            for tool in TOOLS:
                world.script(os.path.join(world.tools, tool), PLAIN)
            world.script(world.path("project/.venv/bin/pytest"), PLAIN)
            world.script(os.path.join(world.tools, "cx"), PASSER)
            for file in ("project/a.txt", "project/sub/a.txt", "extra/a.txt", "extra/a.py"):
                world.write(file, "x\n")
            self.prepare(place, settings, more, hooked)
            self.run(place, more, mode, calls if hooked else [re.sub(r"\bcx (run -- )?", "", text) for text in calls])
        finally:
            world.close()

    def prepare(self, place, settings, more, hooked):
        world = self.world
        settings = json.loads(json.dumps(settings).replace("EXTRA", self.extra))
        own = {"env": {"CLAUDE_ENV_FILE": world.path("env.sh")}}
        if place in ("user", "arguments", "saved"):
            own.update(settings)
        elif place == "managed":
            world.write("etc/claude-code/managed-settings.json", json.dumps(settings))
            own["permissions"] = more[0] if more else {}
        else:
            name = "settings.json" if place == "project" else "settings.local.json"
            world.write("project/.claude/" + name, json.dumps(settings))
        world.write(".claude/settings.json", json.dumps(own))
        trusted = place != "untrusted"
        world.write(".claude.json", json.dumps({"projects": {world.project: {"hasTrustDialogAccepted": trusted}}}))
        if hooked:
            subprocess.run([world.cx, "setup", "claude", "--yes"], env=world.environment(), check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)

    def run(self, place, more, mode, calls):
        world, options = self.world, self.options
        self.texts = [text.replace("EXTRA", self.extra) for text in calls]
        model = Model([{"command": text, "description": "d"} for text in self.texts])
        argv = [options.client, "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
                "--permission-prompt-tool", "stdio", "--permission-mode", mode]
        if place == "arguments":
            argv += [a.replace("EXTRA", self.extra) for a in more[0]]
        if options.uid is not None:
            subprocess.run(["chown", "-R", "%d:%d" % (options.uid, options.uid), world.home], check=True)
            argv = ["setpriv", "--reuid=%d" % options.uid, "--regid=%d" % options.uid, "--clear-groups", *argv]
        if place == "managed":
            etc = world.path("all-etc")
            script = ('mkdir "$1" && cp -a /etc/. "$1" 2>/dev/null; cp -r "$2" "$1" && chmod -R a+rX "$1/claude-code" '
                      '&& mount --bind "$1" /etc && shift 2 && exec "$@"')
            argv = ["unshare", "-m", "sh", "-c", script, "sh", etc, world.path("etc/claude-code"), *argv]
        env = world.environment(model.url)
        if mode == "bypassPermissions" and os.geteuid() == 0 and options.uid is None:
            # The client lets root have this mode in a container only, and takes this word for it.
            env["IS_SANDBOX"] = "1"
        process = subprocess.Popen(argv, cwd=world.project, env=env, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watch = threading.Timer(TIMEOUT_S, process.kill)
        watch.start()
        errors = []
        reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
        reader.start()

        def say(value):
            process.stdin.write(json.dumps(value) + "\n")
            process.stdin.flush()

        try:
            say({"type": "user", "message": {"role": "user", "content": "go"}})
            for line in process.stdout:
                event = json.loads(line)
                if event.get("type") == "control_request":
                    say(self.reply(event))
                if event.get("type") == "result":
                    process.stdin.close()
                    break
            process.stdout.read()
            process.wait()
        finally:
            watch.cancel()
            process.kill()
            process.wait()
            reader.join()
            model.close()
        self.outcomes = [self.outcome(model, number) for number in range(len(self.texts))]
        if len(model.results) != len(self.texts):
            raise AssertionError("the client stopped early: %s" % errors[0][-1000:])
        self.through = world.read("through").splitlines()
        # What could write outside the project; in a sandbox nothing.
        self.ran = sorted(world.read("ran").replace(self.extra, "EXTRA").splitlines())

    def reply(self, event):
        request = event["request"]
        if request.get("subtype") != "can_use_tool":
            answer = {"subtype": "error", "request_id": event["request_id"], "error": "unknown"}
            return {"type": "control_response", "response": answer}
        number = int(request["tool_use_id"].rpartition("_")[2])
        self.asked[number] = request["input"].get("command")
        answer = {"behavior": "deny", "message": "no"}
        if self.saves:
            offered = request.get("permission_suggestions") or []
            answer = {"behavior": "allow", "updatedInput": request["input"], "updatedPermissions": offered}
        return {"type": "control_response", "response": {"subtype": "success", "request_id": event["request_id"], "response": answer}}

    def outcome(self, model, number):
        block = model.results.get(number) or {}
        text = block.get("content", "")
        text = text if isinstance(text, str) else "\n".join(part.get("text", "") for part in text)
        if number in self.asked:
            return "asked"
        if not block.get("is_error") or text.startswith("Exit code"):
            return "ran"
        return "refused"


def whole(sessions):
    """Several sessions as one."""
    first, *others = sessions
    for one in others:
        first.outcomes += one.outcomes
        first.through += one.through
        first.ran = sorted(first.ran + one.ran)
    return first


def compare(options, scene, mode):
    """Prints what differs between the two sessions; how much of it is not known."""
    calls = SAVED if scene[1] == "saved" else CALLS
    if "outside" in scene[0]:
        # What leaves the sandbox does so by its own name, which a typed `cx` is not.
        calls = [text for text in calls if not text.startswith("cx ")]
    # In plan mode the client gives up after some refusals.
    most = 8 if mode == "plan" else len(calls)
    chunks = [calls[i:i + most] for i in range(0, len(calls), most)]
    without, hooked = (whole([Session(options, scene, mode, h, c) for c in chunks]) for h in (False, True))
    differs = [("%s -> %s" % (a, b), text, "") for a, b, text in zip(without.outcomes, hooked.outcomes, calls) if a != b]
    if not differs and without.ran != hooked.ran:
        differs = [("ran otherwise", "", "%s, with cx %s" % (without.ran, hooked.ran))]
    new = [d for d in differs if not any(all(map(re.search, known, (scene[0], mode, *d[:2]))) for known in KNOWN)]
    counts = ", ".join("%d %s" % (without.outcomes.count(w), w) for w in ("ran", "asked", "refused"))
    print("%s %s, %s: %s; %d through cx; %d differ, %d of them unknown" % (
        "FAILED" if new else "ok    ", scene[0], mode, counts, len(hooked.through), len(differs), len(new)), flush=True)
    for outcome, text, more in new:
        print("    %s: %r %s" % (outcome, text, more))
    return len(new)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cx", default=os.path.join(HERE, "../../target/debug/cx"), help="the program to check")
    parser.add_argument("--as-uid", dest="uid", type=int, help="run the client as this user (as root only)")
    parser.add_argument("--mode", choices=MODES, help="only this permission mode")
    parser.add_argument("-k", default="", metavar="WORD", help="only the scenes whose name holds it")
    options = parser.parse_args()
    options.cx = os.path.realpath(options.cx)
    options.client = os.environ.get("CX_TEST_CLAUDE") or shutil.which("claude")
    if not options.client:
        print("skipped: no Claude Code here (install it, or name one by CX_TEST_CLAUDE)")
        return SKIPPED
    root = os.geteuid() == 0
    failures = 0
    for scene in SCENES:
        for mode in MODES:
            if options.k not in scene[0] or options.mode not in (None, mode):
                continue
            why = None
            if scene[1] == "managed" and not root:
                why = "only root can show the client other settings of an administrator"
            elif "sandbox" in scene[0] and options.uid is not None:
                why = "the sandbox needs a user of its own (without --as-uid)"
            if why:
                print("skipped %s, %s: %s" % (scene[0], mode, why))
                continue
            try:
                failures += compare(options, scene, mode)
            except Exception as error:  # one scene's failure must not hide the others
                failures += 1
                print("FAILED %s, %s: %r" % (scene[0], mode, error), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
