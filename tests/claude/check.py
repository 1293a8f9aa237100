#!/usr/bin/env python3
"""Checks `cx hook` with the real Claude Code client: a scripted model asks for commands, and the check looks at
what ran.

    tests/claude/check.py [--cx target/debug/cx] [-k WORD]

The client is the one that CX_TEST_CLAUDE names, else the first `claude` on PATH; without one the check is skipped
with exit status 77, all but what needs no client. It runs with an empty environment, a HOME of its own and a model on loopback; it needs no
account. The hook is the real program. What runs in the rewritten command is a `cx` that only records, so that no
node is needed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

from model import Model

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SKIPPED = 77
TIMEOUT_S = 120
ALLOW = {"permissions": {"allow": ["Bash"]}}

# Stands for cx in the rewritten command: says how it was called, what note the hook left, and what FOO is.
RECORDER = r"""#!/bin/sh
state="${XDG_STATE_HOME:-$HOME/.local/state}/cx"
{ printf '%s|' "$@"; echo "FOO=$FOO"; } >> "$HOME/ran"
cat "$state/notes/$CLAUDE_CODE_SESSION_ID".* > "$HOME/note" 2>/dev/null
mkdir -p "$state/reports"
echo "[cx] recorder was here" >> "$state/reports/$CLAUDE_CODE_SESSION_ID"
echo "recorded $*"
exit 3
"""
# Stands for the tool itself, where the command stays local.
PLAIN = '#!/bin/sh\necho "plain $*" | tee -a "$HOME/ran"\n'


class World:
    """A throw-away home with the hook set up, and one run of the client in it."""

    def __init__(self, cx):
        self.cx = cx
        self.shell = "/bin/bash"
        self.home = os.path.realpath(tempfile.mkdtemp(prefix="cx-claude-"))
        self.bin = os.path.join(self.home, "bin")
        self.tools = os.path.join(self.home, "tools")
        self.project = os.path.join(self.home, "project")
        for directory in (self.bin, self.tools, self.project, self.path(".claude")):
            os.makedirs(directory)
        os.symlink(cx, os.path.join(self.bin, "cx"))
        self.script(os.path.join(self.tools, "cx"), RECORDER)
        self.script(os.path.join(self.tools, "pytest"), PLAIN)
        # The shell of the client's commands finds the recorder; the hook, started by the client, finds the real cx.
        self.write("env.sh", 'export PATH="$HOME/tools:$PATH"\n')
        self.write(".config/cx/config.toml", "nodes = [\"tower\"]\n")

    def path(self, *names):
        return os.path.join(self.home, *names)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", newline="", encoding="utf-8") as file:
            file.write(text)

    def script(self, path, text):
        self.write(path, text)
        os.chmod(path, 0o755)

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def environment(self, url=""):
        return {
            "HOME": self.home, "PATH": self.bin + ":/usr/local/bin:/usr/bin:/bin", "SHELL": self.shell, "SHLVL": "1",
            "LANG": "C.UTF-8", "TERM": "dumb", "TMPDIR": self.home, "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "not-a-key", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1",
        }

    def run(self, client, calls, settings=None, arguments=(), bashrc="", mode="rewrite", shell="/bin/bash", managed=None):
        settings = settings or ALLOW
        self.write(".bashrc", bashrc)
        self.shell = shell
        variables = dict(settings.get("env", {}))
        if mode != "shims":
            variables["CLAUDE_ENV_FILE"] = self.path("env.sh")
        else:
            # The functions name the real cx, and the tool lies where the client's PATH finds it.
            self.script(os.path.join(self.bin, "pytest"), PLAIN)
        self.write(".claude/settings.json", json.dumps({**settings, "env": variables}, indent=2))
        if mode != "none":
            subprocess.run([self.cx, "setup", "claude", "--yes", "--mode", mode], env=self.environment(), check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
        # After setup, and beside it: notes the input with which each call ran.
        with open(self.path(".claude/settings.json"), encoding="utf-8") as file:
            hooked = json.load(file)
        note = {"type": "command", "command": 'cat >> "$HOME/inputs"; echo >> "$HOME/inputs"'}
        for event in ("PostToolUse", "PostToolUseFailure"):
            hooked.setdefault("hooks", {}).setdefault(event, []).append({"matcher": "Bash", "hooks": [note]})
        self.write(".claude/settings.json", json.dumps(hooked))
        model = Model(calls)
        try:
            within = self.managed(managed) if managed else []
            done = subprocess.run([*within, client, "-p", "go", "--output-format", "json", *arguments], cwd=self.project,
                                  env=self.environment(model.url), stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, timeout=TIMEOUT_S)
        finally:
            model.close()
        return Result(self, model, done)

    def managed(self, settings):
        """What to put in front of a command so that it finds these as the administrator's settings."""
        self.write("managed.json", json.dumps(settings))
        self.write("etc/README", "stands over /etc in a mount namespace of the command's own\n")
        layers = 'mount -t tmpfs tmpfs "$0" && mkdir -p "$0/u/claude-code" "$0/w" && cp "$1" "$0/u/claude-code/managed-settings.json"'
        over = 'mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0/u,workdir=$0/w" /etc && shift && exec "$@"'
        return ["unshare", "-r", "-m", "sh", "-c", "%s && %s" % (layers, over), self.path("etc"), self.path("managed.json")]

    def close(self):
        shutil.rmtree(self.home, ignore_errors=True)


class Result:
    """What happened: the tool results, what ran, and with which input."""

    def __init__(self, world, model, done):
        self.status = done.returncode
        self.text = [result_text(model.results.get(n)) for n in range(len(model.calls))]
        self.failed = [bool((model.results.get(n) or {}).get("is_error")) for n in range(len(model.calls))]
        self.ran = world.read("ran").splitlines()
        self.inputs = [json.loads(line)["tool_input"] for line in world.read("inputs").splitlines() if line]
        self.note = json.loads(world.read("note") or "null")
        self.told = "\n".join(model.seen)
        history = [json.loads(line) for line in world.read(".local/state/cx/history.jsonl").splitlines()]
        self.through_cx = [entry["command"] for entry in history if entry["command"] != ["mcp"]]
        if len(model.results) != len(model.calls):
            raise AssertionError("the client stopped early: %s %s" % (done.stdout[-1000:], done.stderr[-1000:]))


def result_text(block):
    content = (block or {}).get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


def equal(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))


def call(command, **fields):
    return {"command": command, "description": "d", **fields}


CASES = []


def case(calls, *rest, **more):
    """Declares a case: what `World.run` is given; the function checks its result."""

    def declare(check):
        def in_client(world, client):
            check(world.run(client, calls, *rest, **more))

        CASES.append((check.__name__, in_client))
        return check

    return declare


@case([call("cd . && FOO=1 timeout 60 pytest -x 'a b' 2>&1 | tail -3; echo after ${PIPESTATUS[0]}")])
def a_heavy_command_runs_through_cx(r):
    equal(r.ran, ["pytest|-x|a b|FOO=1"])
    equal(r.text, ["recorded pytest -x a b\nafter 3"])
    equal(r.note["assigned"], ["FOO"])
    equal(r.note["tool_use_id"], "toolu_call_0")
    assert "recorder was here" in r.told, "the report did not reach the model"


@case([call("pytest -x", timeout=5000)])
def the_status_and_the_other_fields_survive(r):
    equal((r.text, r.failed), (["Exit code 3\nrecorded pytest -x"], [True]))
    equal(r.inputs, [{"command": "cx pytest -x", "description": "d", "timeout": 15000}])
    equal(r.note["timeout_ms"], 15000)
    assert "recorder was here" in r.told, "the report of a failure did not reach the model"


@case([call("echo hi"), call("echo 'pytest'; true")])
def light_commands_stay(r):
    equal(r.text, ["hi", "pytest"])
    equal([i["command"] for i in r.inputs], ["echo hi", "echo 'pytest'; true"])
    equal(r.ran, [])


@case([call("pytest -x")], {"permissions": {"allow": ["Bash"], "deny": ["Bash(pytest:*)"]}})
def a_deny_rule_still_denies(r):
    equal((r.ran, r.failed), ([], [True]))


@case([call("FOO=1 pytest -x | tail")], {"permissions": {"allow": ["Bash"], "ask": ["Bash(pytest *)"]}})
def an_ask_rule_still_asks(r):
    equal((r.ran, r.failed), ([], [True]))


@case([call("pytest -x")], arguments=["--disallowedTools", "Bash(pytest:*)", "WebFetch"])
def a_rule_among_the_arguments_still_denies(r):
    equal((r.ran, r.failed), ([], [True]))


@case([call("pytest -x")], arguments=["--settings", '{"permissions":{"deny":["Bash(pytest:*)"]}}'])
def a_rule_in_settings_of_the_arguments_still_denies(r):
    equal((r.ran, r.failed), ([], [True]))


@case([call("cx run -- pytest -x"), call("cx make")],
      {"permissions": {"allow": ["Bash"], "deny": ["Bash(pytest:*)"]}})
def typed_cx_does_not_pass_by_a_deny_rule(r):
    equal((r.ran, r.failed), (["make|FOO="], [True, True]))


@case([call("for i in 1; do pytest; done"), call("b=1 && pytest -x"), call("echo hi")],
      {"permissions": {"allow": ["Bash(pytest:*)", "Bash(echo:*)"]}})
def a_variable_in_the_first_command_is_asked_about(r):
    # The client asks about it until a command has run, whatever the rules allow.
    equal((r.ran, r.failed), ([], [True, True, False]))


def agent(*calls):
    """Starts a subagent that makes these calls."""
    return {"description": "d", "prompt": "You are the subagent of the check.", "subagent_type": "general-purpose",
            "calls": list(calls)}


@case([agent(call("pytest -x"), call("echo hi"))])
def a_subagent_s_heavy_command_runs_through_cx(r):
    equal((r.ran, r.failed), (["pytest|-x|FOO="], [False, True, False]))
    equal(r.text[1:], ["Exit code 3\nrecorded pytest -x", "hi"])


@case([agent(call("pytest -x"), call("make"))], {"permissions": {"allow": ["Bash"], "deny": ["Bash(pytest:*)"]}})
def a_subagent_is_held_by_a_deny_rule(r):
    equal((r.ran, r.failed), (["make|FOO="], [False, True, True]))


@case([agent(call("pytest -x"))], {"permissions": {"allow": ["Bash(ls:*)"]}})
def a_subagent_asks_as_it_would_without_cx(r):
    equal((r.ran, r.failed), ([], [False, True]))


def default(mode, *allow):
    return {"permissions": {"allow": list(allow), "defaultMode": mode}}


@case([call("touch a && pytest -x"), call("touch b")], default("acceptEdits"))
def the_default_mode_that_accepts_edits_allows_no_test(r):
    equal((r.ran, r.failed), ([], [True, False]))


@case([call("touch a && pytest -x")], default("acceptEdits", "Bash(pytest:*)"))
def the_default_mode_that_accepts_edits_counts_beside_a_rule(r):
    equal((r.ran, r.failed), (["pytest|-x|FOO="], [True]))


@case([call("pytest -x"), call("make")], default("dontAsk", "Bash(pytest:*)"))
def the_default_mode_that_asks_nothing_runs_what_is_allowed(r):
    equal((r.ran, r.failed), (["pytest|-x|FOO="], [True, True]))


@case([call("pytest -x")], default("plan"))
def the_default_mode_that_plans_runs_nothing_that_is_not_allowed(r):
    equal((r.ran, r.failed), ([], [True]))


@case([call("pytest -x")], {"permissions": {"allow": ["Bash"], "deny": ["Bash(git push:*)", "Read(./.env)"]}})
def other_deny_rules_do_not_stop_a_rewrite(r):
    equal(r.ran, ["pytest|-x|FOO="])


@case([call("pytest -x")], {"permissions": {"allow": ["Bash(pytest:*)"]}})
def what_a_rule_allows_runs_through_cx_unasked(r):
    # The client sees only the rewritten text, so that this is the hook's `allow`.
    equal((r.ran, r.failed), (["pytest|-x|FOO="], [True]))


@case([call("pytest -x")], {"permissions": {"allow": ["Bash"]}, "env": {"CX_LOCAL": "1"}})
def cx_local_leaves_it(r):
    equal((r.ran, r.text), (["plain -x"], ["plain -x"]))


@case([call("true"), call("pytest -x")], bashrc="alias pytest='pytest --aliased'\n")
def an_alias_of_the_user_keeps_its_meaning(r):
    equal(r.text, ["(Bash completed with no output)", "plain --aliased -x"])


@case([call("pytest a; pytest b || true")])
def the_reports_of_several_runs_arrive_together(r):
    equal(r.ran, ["pytest|a|FOO=", "pytest|b|FOO="])
    assert r.told.count("recorder was here") >= 2, "a report is missing"


# The command as typed, and what cx was given: the text stays, in both shells.
SHIMMED = [("pytest -x", ["pytest", "-x"]), ("timeout 5 pytest y | cat", ["pytest", "y"]),
           ("cd . && (FOO=1 nice pytest z; true)", ["pytest", "z"]),
           ("mkdir -p v; export PATH=$PWD/v:$PATH; cp ../bin/pytest v; timeout 5 pytest in-v", ["pytest", "in-v"])]


def declare_shims():
    for shell in ("/bin/bash", "/usr/bin/zsh"):
        for number, (command, want) in enumerate(SHIMMED):
            def check(r, command=command, want=want):
                equal(r.through_cx, [want])
                equal(r.inputs, [call(command)])
                equal((r.text, r.failed), (["plain %s" % want[1]], [False]))
                assert "[cx] local" in r.told or "local: " in r.told, "the report did not reach the model"
            check.__name__ = "shims_in_%s_%d" % (os.path.basename(shell), number)
            if os.path.exists(shell):
                case([call(command)], mode="shims", shell=shell)(check)


declare_shims()


@case([call("pytest -x")], {"permissions": {"allow": ["Bash"], "deny": ["Bash(pytest:*)"]}}, mode="shims")
def with_shims_the_client_s_own_rules_decide(r):
    equal((r.ran, r.through_cx, r.failed), ([], [], [True]))


@case([call("pytest -x")], {"permissions": {"allow": ["Bash(pytest:*)"]}}, mode="shims")
def with_shims_a_rule_for_the_tool_is_enough(r):
    equal((r.through_cx, r.failed), ([["pytest", "-x"]], [False]))


@case([call("cx pytest -x")], {"permissions": {"allow": ["Bash"], "deny": ["Bash(pytest:*)"]}}, mode="shims")
def with_shims_a_typed_cx_does_not_pass_by_a_rule(r):
    equal((r.through_cx, r.failed), ([], [True]))


# A user's own start of a session, which cx's stands beside.
OWN = {**ALLOW, "hooks": {"SessionStart": [{"hooks": [
    {"type": "command", "command": "printf 'export MINE=1' >> \"$CLAUDE_ENV_FILE\""}]}]}}


@case([call("echo mine $MINE; pytest -x")], OWN, mode="shims")
def with_shims_a_session_start_of_the_user_s_own_goes_on(r):
    equal((r.through_cx, r.text), ([["pytest", "-x"]], ["mine 1\nplain -x"]))


@case([call("command -v pnpm vitest nox || echo none; command -v pytest"),
       call("mkdir -p .venv/bin && cp ../bin/pytest .venv/bin/nox"),
       call("export PATH=$PWD/.venv/bin:$PATH; nox x")], mode="shims")
def with_shims_there_is_a_function_for_what_is_there(r):
    equal((r.through_cx, r.text[0], r.text[2]), ([["nox", "x"]], "none\npytest", "plain x"))


@case([call("echo sandbox ${SANDBOX_RUNTIME:+yes}; pytest -x")], {**ALLOW, "sandbox": {"enabled": True}}, mode="shims")
def with_shims_a_sandbox_has_plain_tools(r):
    equal(r.through_cx, [])
    # The tool cannot write its note there.
    assert "sandbox yes" in r.text[0] and r.text[0].endswith("plain -x"), r.text


@case([call("pytest -x")], mode="shims", bashrc='eval "$(cx init bash)"\n')
def functions_of_the_rc_file_add_nothing(r):
    equal((r.through_cx, r.text), ([["pytest", "-x"]], ["plain -x"]))


@case([call("pytest -x")], bashrc='eval "$(cx init bash)"\n')
def functions_of_the_rc_file_do_not_hide_a_tool_from_the_hook(r):
    equal(r.ran, ["pytest|-x|FOO="])


SERVER = ["--mcp-config", json.dumps({"mcpServers": {"cx": {"command": "cx", "args": ["mcp"]}}})]
ALLOW_SERVER = {"permissions": {"allow": ["Bash", "mcp__cx__cluster_bash"]}}


def cluster(command):
    return {"tool": "mcp__cx__cluster_bash", "command": command}


def may_manage():
    """Whether this machine lets a command have an /etc of its own."""
    tried = World(os.devnull)
    try:
        return subprocess.run([*tried.managed({}), "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
    finally:
        tried.close()


if may_manage():
    MANAGED = {"permissions": {"deny": ["Bash(touch:*)"]}}
    TOUCHES = [call("touch a"), cluster("touch b; echo c"), cluster("echo touch")]

    @case(TOUCHES, ALLOW_SERVER, arguments=SERVER, mode="none", managed=MANAGED)
    def the_administrator_s_deny_rule_holds_at_the_server(r):
        equal(r.failed, [True, True, False])
        assert r.text[1].startswith("Refused: your rule Bash(touch:*) denies it"), r.text
        equal(r.text[2].splitlines()[0], "touch")

    @case(TOUCHES, ALLOW_SERVER, arguments=SERVER, managed=MANAGED)
    def the_administrator_s_deny_rule_holds_at_the_hook(r):
        equal(r.failed, [True, True, False])
        assert "Bash(touch:*)" in r.text[1], r.text


def hook(world, stdin):
    done = subprocess.run([world.cx, "hook"], input=stdin, env=world.environment(), capture_output=True, timeout=TIMEOUT_S)
    return done.returncode, done.stdout, done.stderr


def strange_input_is_answered_with_nothing(world):
    good = {"hook_event_name": "PreToolUse", "tool_name": "Bash", "permission_mode": "default", "session_id": "s",
            "cwd": world.project, "tool_input": {"command": "pytest -x"}}
    status, out, err = hook(world, json.dumps(good).encode())
    equal((status, err), (0, b""))
    equal(json.loads(out)["hookSpecificOutput"]["updatedInput"], {"command": "cx pytest -x"})
    deep = b"[" * 200000
    for text in (b"", b"{", b"null", b"\xff", json.dumps(good).encode()[:-1], b" " * (17 << 20), deep,
                 b'{"hook_event_name":"PreToolUse","tool_name":"Bash","x":' + deep,
                 json.dumps({**good, "tool_input": {"command": "$(" * 30000}}).encode(),
                 json.dumps({**good, "tool_input": {"command": "pytest;" * 20000}}).encode()):
        equal(hook(world, text), (0, b"", b""))
    # Nobody reads the answer, or nobody could.
    line = "printf '%s' \"$1\" | \"$0\" hook >&-; printf '%s' \"$1\" | \"$0\" hook > /dev/full; \"$0\" hook <&-"
    done = subprocess.run(["sh", "-ec", line, world.cx, json.dumps(good)], env=world.environment(), capture_output=True)
    equal((done.returncode, done.stdout, done.stderr), (0, b"", b""))


def setup_takes_away_only_its_own(world):
    before = '{ "model" : "m",\r\n\t"hooks": {"PreToolUse": [ ]} }'
    world.write(".claude/settings.json", before)
    for arguments in ([], ["--remove"]):
        subprocess.run([world.cx, "setup", "claude", "--yes", *arguments], env=world.environment(), check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S)
    with open(world.path(".claude/settings.json"), newline="", encoding="utf-8") as file:
        equal(file.read(), before)


def the_plugin_and_its_marketplace_are_valid(world, client):
    for place in (ROOT, os.path.join(ROOT, "hooks/claude")):
        done = subprocess.run([client, "plugin", "validate", "--strict", place], env=world.environment(),
                              capture_output=True, text=True, timeout=TIMEOUT_S)
        equal((done.returncode, done.stdout if done.returncode else ""), (0, ""))


def the_server_is_registered_by_the_client_itself(world, client):
    os.symlink(client, os.path.join(world.bin, "claude"))
    servers = []
    for arguments in ([], [], ["--remove"]):
        done = subprocess.run([world.cx, "setup", "claude", "--yes", *arguments], env=world.environment(), check=True,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
        servers.append(json.loads(world.read(".claude.json")).get("mcpServers", {}).get("cx"))
        equal("by `claude mcp`" in done.stdout, len(servers) != 2)
        listed = subprocess.run([client, "mcp", "list"], env=world.environment(), check=True, cwd=world.project,
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S).stdout
        # It starts each of them.
        own = [line for line in listed.splitlines() if line.startswith("cx: ")]
        equal(["Connected" in line for line in own], [True] if len(servers) < 3 else [])
    own = {"type": "stdio", "command": os.path.join(world.bin, "cx"), "args": ["mcp"], "env": {}}
    equal(servers, [own, own, None])


CASES += [(f.__name__, f) for f in (the_plugin_and_its_marketplace_are_valid,
                                    the_server_is_registered_by_the_client_itself)]
PLUGIN = ["--plugin-dir", os.path.join(ROOT, "hooks/claude")]


@case([call("pytest -x")], arguments=PLUGIN, mode="none")
def the_plugin_alone_sends_a_command_through_cx(r):
    equal((r.ran, r.inputs), (["pytest|-x|FOO="], [call("cx pytest -x")]))
    assert "recorder was here" in r.told, "the report did not reach the model"


@case([call("pytest -x")], arguments=PLUGIN)
def plugin_and_settings_act_once(r):
    equal((r.ran, r.inputs), (["pytest|-x|FOO="], [call("cx pytest -x")]))
    equal(r.told.count("recorder was here"), 1)


@case([call("pytest -x")], arguments=PLUGIN, mode="shims")
def plugin_and_shims_act_once(r):
    equal((r.through_cx, r.inputs), ([["pytest", "-x"]], [call("pytest -x")]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cx", default=os.path.join(HERE, "../../target/debug/cx"), help="the program to check")
    parser.add_argument("-k", default="", metavar="WORD", help="only the cases whose name holds it")
    options = parser.parse_args()
    cx = os.path.realpath(options.cx)
    if not os.access(cx, os.X_OK):
        print("no program at %s; run `cargo build`, or name one by --cx" % cx)
        return 1
    client = os.environ.get("CX_TEST_CLAUDE") or shutil.which("claude")
    checks = [(f.__name__, lambda world, _, f=f: f(world)) for f in
              (strange_input_is_answered_with_nothing, setup_takes_away_only_its_own)]
    failures = 0
    for name, check in checks + (CASES if client else []):
        name = name.replace("_", " ")
        if options.k not in name:
            continue
        world = World(cx)
        try:
            check(world, client)
            print("ok    ", name, flush=True)
        except Exception:  # one case's failure must not hide the others
            failures += 1
            print("FAILED", name, flush=True)
            traceback.print_exc()
        finally:
            world.close()
    if failures:
        return 1
    if not client:
        print("skipped the rest: no Claude Code here (install it, or name one by CX_TEST_CLAUDE)")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
