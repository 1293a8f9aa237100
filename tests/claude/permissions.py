#!/usr/bin/env python3
"""The permissions table: thousands of (rules, mode, command) cases, with `cx hook` and without it.

    tests/claude/permissions.py [--cx target/debug/cx] [--every N] [-k WORD]
    tests/claude/permissions.py --client CLAUDE [--sample N]

For each case the real `cx hook` is asked, and `client.py`, a model of Claude Code, says what the client does with its answer
and what it would have done without cx. No case may be looser with cx. What is asked about only with cx stands in `asked.txt`, with
its reason, and nothing else may.

The model is first compared with all that was observed of the client. With `--client` a sample of the table is also run by the real
client, headless, with the hook's own answers, and compared with the model.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from client import ASKED, DENIED, JUDGED, RAN, SEVERITY, Client, Text
from model import Model

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LETTERS = {"r": RAN, "a": ASKED, "d": DENIED}
MODES = ["default", "acceptEdits", "plan", "dontAsk", "bypassPermissions", "auto"]

# Rules, in which `pytest` stands for the tool; all of them are tried with the texts that were observed.
ALLOW = {"allow": ["Bash(pytest:*)"]}
RULES = [
    {},
    {"allow": ["Bash"]},
    {"allow": ["Bash(*)"]},
    ALLOW,
    {"allow": ["Bash(pytest *)"]},
    {"allow": ["Bash(pytest)"]},
    {"allow": ["Bash(pytest -x)", "Edit"]},
    {"allow": ["Bash(pytest -x:*)"]},
    {"allow": ["Bash(pytest*)"]},
    {"allow": ["Bash(py*)"]},
    {"allow": ["Bash(* -x)"]},
    {"allow": ["Bash(*test*)"]},
    {"allow": ["Bash(timeout 60 pytest:*)", "Bash(FOO=1 pytest:*)", "Bash(env pytest:*)"]},
    {"allow": ["Bash(./pytest:*)", "Bash(.venv/bin/pytest:*)", "Bash(/usr/bin/pytest)"]},
    {"allow": ["Bash(git:*)", "Bash(npm run *)"]},
    {"allow": ["Bash(:*)", "Bash()", "bash(pytest:*)", "*"]},
    {"allow": ["Bash(cx:*)"]},
    {"allow": ["Bash(cx *)", "Bash(pytest:*)"]},
    {"allow": ["Bash(c*)"]},
    {"allow": ["Bash(cx pytest:*)"]},
    {"allow": ["Bash(pytest:*)"], "deny": ["Bash(git push:*)", "Read(./.env)"]},
    {"allow": ["Bash"], "deny": ["Bash(pytest:*)"]},
    {"allow": ["Bash"], "deny": ["Bash(pytest)"]},
    {"allow": ["Bash"], "deny": ["Bash(* -x)"]},
    {"allow": ["Bash"], "deny": ["Bash(tail:*)"]},
    {"allow": ["Bash(pytest:*)"], "deny": ["Bash(cx:*)"]},
    {"allow": ["Bash"], "ask": ["Bash(pytest:*)"]},
    {"allow": ["Bash(pytest:*)"], "ask": ["Bash(pytest -x:*)"]},
    {"allow": ["Bash"], "ask": ["Bash(cx pytest:*)", "Bash(cat *)"]},
    {"allow": ["Bash", "Bash(pytest:*)"], "ask": ["Bash"]},
]
SCOPES = ["user", "local", "project", "managed", "drop-in", "argument", "flag"]
TOOLS = ["pytest", "cargo test", "npm test", "make test", "go test"]

# A typed cx, and the text that it stands for. `X` is the command.
TYPED = [
    ("cx X", "X"), ('"cx" X', "X"), ("'cx' X", "X"), ("c'x' X", "X"), ("\\cx X", "X"), ("/opt/cx X", "X"), ("./cx X", "X"),
    ("~/bin/cx X", "X"), ("env cx X", "env X"), ("FOO=1 cx X", "FOO=1 X"), ("CI=1 cx X", "CI=1 X"), ("command cx X", "command X"),
    ("timeout 60 cx X", "timeout 60 X"), ("nohup cx X", "nohup X"), ("time cx X", "time X"), ("cx timeout 60 X", "timeout 60 X"),
    ("cx run -- X", "X"), ("cx run X", "X"), ("cx run -q -- X", "X"), ("cx run --local -- X", "X"), ("cx run --on tower -- X", "X"),
    ("cx run --on=tower X", "X"), ("cx cx X", "X"), ("cx run -- cx X", "X"), ("cx X && cx X", "X && X"), ("cx X; cx ls", "X; ls"),
    ("cx X | tail -3", "X | tail -3"), ("cd sub && cx X", "cd sub && X"), ("(cx X)", "(X)"), ("! cx X", "! X"),
    ("if cx X; then echo ok; fi", "if X; then echo ok; fi"), ("for i in 1 2; do cx X; done", "for i in 1 2; do X; done"),
    ("echo $(cx X)", "echo $(X)"), ("cx X > out.txt", "X > out.txt"), ("cx X &", "X &"), ("bash -c 'cx X'", "bash -c 'X'"),
    ("sudo cx X", "sudo X"), ("eval cx X", "eval X"), ("exec cx X", "exec X"), ("echo a | xargs cx X", "echo a | xargs X"),
    ("$(which cx) X", "X"), ("cx $Y X", "X"), ("cx --new X", "X"), ("cx run --new -- X", "X"), ("cx=1; cx X", "X"),
    ("find . -exec cx X \\;", "find . -exec X \\;"), ("f() { cx X; }; f", "f() { X; }; f"), ("x=$(cx X)", "x=$(X)"),
    ("cat <(cx X)", "cat <(X)"), ("cx 'X'", "X"), ("setsid cx X", "setsid X"),
]
# What may be typed behind it besides the tool.
OTHERS = ["git push", "ls", "git status", "rm -rf sub", "make deploy", "curl x"]


class Case:
    def __init__(self, number, rules, mode, text, plain):
        self.rules, self.mode, self.text, self.plain = rules, mode, text, plain
        self.scope = SCOPES[number % len(SCOPES)]

    def line(self):
        return "%s | %s | %s" % (self.mode, json.dumps(self.rules), self.text.replace("\\", "\\\\").replace("\n", "\\n"))


def observed():
    """All that was seen of the client: rules, mode, text and outcome."""
    with open(os.path.join(HERE, "observed.json"), encoding="utf-8") as file:
        for run in json.load(file)["runs"]:
            for text, outcome in run["cases"]:
                yield run["rules"], run["mode"], text, LETTERS[outcome]
    with open(os.path.join(ROOT, "src/hook/permissions/observed.json"), encoding="utf-8") as file:
        seen = json.load(file)
    for kind, rule, outcomes in seen["rows"]:
        rules = {kind: [rule]} if kind == "allow" else {kind: [rule], "allow": ["Bash"]}
        for text, outcome in zip(seen["texts"], outcomes):
            if outcome != "?":
                yield rules, "default", text, LETTERS[outcome]


def spelled(value, tool):
    """Texts and rules for another tool than pytest."""
    return json.loads(json.dumps(value).replace("pytest", tool)) if tool != "pytest" else value


def drawn(key, out_of):
    """A choice that is the same in every run."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % out_of == 0


def cases():
    """All cases, those of the same rules and scope together."""
    together = {}
    for case in drawn_cases():
        together.setdefault((json.dumps(case.rules), case.scope), []).append(case)
    return [case for members in together.values() for case in members]


def drawn_cases():
    texts = list(dict.fromkeys(text for _, _, text, _ in observed() if "npm" not in text and "pytest" in text))
    number = 0
    for rules in RULES:
        for mode in MODES:
            # Every text under the commonest rule, and a share of them under each other.
            for text in texts:
                written = mode == "acceptEdits" and re.search(">|mkdir|touch", text)
                often = rules == ALLOW and (mode == "default" or written)
                for tool in TOOLS:
                    if (often and tool == "pytest") or drawn("%s|%s|%s|%s" % (rules, mode, text, tool), 240):
                        yield Case(number, spelled(rules, tool), mode, spelled(text, tool), spelled(text, tool))
            for typed, plain in TYPED:
                for command in ["pytest", "pytest -x", *OTHERS]:
                    if drawn("%s|%s|%s|%s" % (rules, mode, typed, command), 50 if command in OTHERS else 10):
                        yield Case(number, rules, mode, typed.replace("X", command), plain.replace("X", command))
            number += 1


class World:
    """A home with rules, and what the hook reads there."""

    def __init__(self, cx, rules, scope):
        self.home = os.path.realpath(tempfile.mkdtemp(prefix="cx-table-"))
        self.project = self.path("project")
        self.cx = cx
        for name in ("project/sub", "project/tests", "bin", ".claude", "etc"):
            os.makedirs(self.path(name))
        for name in ("a.txt", "log.txt", "sub/a.txt"):
            self.write("project/" + name, "x\n")
        os.symlink("/tmp", self.path("project/link"))
        os.symlink(cx, self.path("bin/cx"))
        self.write(".config/cx/config.toml", 'nodes = ["tower"]\n')
        self.write(".claude.json", json.dumps({"projects": {self.project: {"hasTrustDialogAccepted": True}}}))
        arguments = []
        settings = json.dumps({"permissions": rules})
        # The administrator's directory is not the hook's to choose: those two scopes are the user's here, and have a test of their own.
        place = {"local": "project/.claude/settings.local.json", "project": "project/.claude/settings.json"}
        if scope == "argument" and "ask" not in rules:
            for kind, option in (("allow", "--allowedTools"), ("deny", "--disallowedTools")):
                arguments += [option, *rules[kind]] if rules.get(kind) else []
        elif scope in ("flag", "argument"):
            arguments += ["--settings", settings]
        else:
            self.write(place.get(scope, ".claude/settings.json"), settings)
        # Stands for the client, whose arguments the hook reads.
        self.client = subprocess.Popen(["claude", "-c", "import sys; sys.stdin.read()", *arguments], executable=sys.executable,
                                       stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=self.home)

    def path(self, name):
        return os.path.join(self.home, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def ask(self, text, mode):
        """The hook's answer, if there is one."""
        event = {"session_id": "s", "cwd": self.project, "permission_mode": mode, "hook_event_name": "PreToolUse",
                 "tool_name": "Bash", "tool_input": {"command": text, "description": "d"}, "tool_use_id": "t"}
        environment = {"HOME": self.home, "PATH": self.path("bin") + ":/usr/bin:/bin", "SHELL": "/bin/bash",
                       "CLAUDE_PROJECT_DIR": self.project, "CLAUDE_PID": str(self.client.pid)}
        done = subprocess.run([self.cx, "hook"], input=json.dumps(event).encode(), env=environment, cwd=self.project,
                              capture_output=True, timeout=60)
        if done.returncode or done.stderr:
            raise AssertionError("cx hook on %r: status %s, %s" % (text, done.returncode, done.stderr))
        if not done.stdout:
            return None
        return done.stdout.decode()

    def close(self):
        self.client.stdin.close()
        self.client.wait()
        shutil.rmtree(self.home, ignore_errors=True)


class Judged:
    """A case with what becomes of it."""

    def __init__(self, case, answer):
        self.case, (self.decision, self.new, self.answer) = case, answer
        client = Client(case.rules, case.mode)
        self.without = client.decides(case.plain)
        self.forbidden = client.restricts("deny", Text(case.plain)) or client.restricts("ask", Text(case.plain))
        self.with_cx = client.decides(self.new or case.text, self.decision)

    @staticmethod
    def of(case, answer):
        """Of the hook's own `hookSpecificOutput`, or none."""
        output = json.loads(answer)["hookSpecificOutput"] if isinstance(answer, str) else answer or {}
        whole = answer if isinstance(answer, str) else json.dumps({"hookSpecificOutput": output}) if output else ""
        return Judged(case, (output.get("permissionDecision"), output.get("updatedInput", {}).get("command"), whole))

    def own_word(self):
        """The user's rule names the command behind cx, as "don't ask again" writes it."""
        return any(rule.startswith("Bash(cx ") and "*" not in rule[8:9] for rule in self.case.rules.get("allow", ()))

    def looser(self):
        """Whether it runs, or is left to the client's own check, what it would not have been. A question in place of a refusal is none."""
        runs_more = self.with_cx in (RAN, JUDGED) and SEVERITY[self.with_cx] < SEVERITY[self.without]
        return runs_more and (self.forbidden or not self.own_word())

    def asks_more(self):
        return SEVERITY[self.with_cx] > SEVERITY[self.without] and self.without in (RAN, JUDGED)

    def says(self):
        return "%s\n    without cx: %s of %r; with cx: %s, hook said %s, %r" % (
            self.case.line(), self.without, self.case.plain, self.with_cx, self.decision, self.new)


def judge_all(cx, chosen):
    """Asks the hook about all cases: those of the same rules in one home."""
    groups = {}
    for case in chosen:
        groups.setdefault((json.dumps(case.rules), case.scope), []).append(case)

    def group(members):
        world = World(cx, members[0].rules, members[0].scope)
        try:
            return [Judged.of(case, world.ask(case.text, case.mode)) for case in members]
        finally:
            world.close()

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        return [judged for part in pool.map(group, groups.values()) for judged in part]


class Listed:
    """A line of asked.txt: which cases it is about, how many there are, and why they are asked about, which the comment above says."""

    def __init__(self, line, reason):
        self.line, self.reason = line, reason
        self.count, self.modes, self.outcome, self.rules, self.text = (field.strip() for field in line.split(" | ", 4))
        self.found = 0

    def covers(self, judged):
        case = judged.case
        return (self.modes in ("any", case.mode) and self.outcome in ("any", judged.with_cx)
                and re.search(self.rules, json.dumps(case.rules)) is not None and re.search(self.text, case.text) is not None)


def listed():
    lines, reason = [], ""
    with open(os.path.join(HERE, "asked.txt"), encoding="utf-8") as file:
        for line in file.read().splitlines():
            if line.startswith("#"):
                reason = line[1:].strip()
            elif line:
                lines.append(Listed(line, reason))
    return lines


def check_model():
    wrong, count = [], 0
    for rules, mode, text, want in observed():
        # Where all of Bash is denied there was no Bash tool to observe.
        count += 1
        got = Client(rules, mode).decides(text)
        if got != want:
            wrong.append("%s %s %r: the client %s, the model %s" % (rules, mode, text, want, got))
    print("model: %d decisions of the client, %d told otherwise" % (count, len(wrong)))
    return wrong


def check_table(results, whole):
    looser = [j for j in results if j.looser()]
    more = [j for j in results if j.asks_more()]
    rewritten = sum(1 for j in results if j.new)
    allowed = sum(1 for j in results if j.decision == "allow")
    local = sum(1 for j in results if not j.answer and j.without == RAN and "cx" not in j.case.text)
    print("table: %d cases, %d rewritten, %d answered with allow, %d left alone that run unasked; %d looser, %d asked about more" % (
        len(results), rewritten, allowed, local, len(looser), len(more)))
    wrong = ["looser: " + j.says() for j in looser]
    known = listed()
    for judged in more:
        entry = next((entry for entry in known if entry.covers(judged)), None)
        if entry:
            entry.found += 1
        else:
            wrong.append("asked about, and not in asked.txt: " + judged.says())
    if whole:
        wrong += ["asked.txt: %r now covers %d cases" % (e.line, e.found) for e in known if str(e.found) != e.count]
    return wrong


HOOK = """#!/usr/bin/env python3
import json, os, sys
event = json.load(sys.stdin)
with open(os.path.join(os.environ["HOME"], "answers.json")) as file:
    print(json.load(file).get(event["tool_input"]["command"], ""))
"""


def run_client(client, rules, mode, texts, answers):
    """What the real client does with `texts`: one session for all of them."""
    home = os.path.realpath(tempfile.mkdtemp(prefix="cx-table-"))
    put = lambda name: os.path.join(home, name)
    for name in ("project/sub", "project/tests", "project/.venv/bin", "stubs", ".claude"):
        os.makedirs(put(name))
    for name in ("a.txt", "log.txt", "sub/a.txt"):
        with open(put("project/" + name), "w", encoding="utf-8") as file:
            file.write("x\n")
    os.symlink("/tmp", put("project/link"))
    for name in "pytest cargo npm make go git cx curl sudo rm".split():
        with open(put("stubs/" + name), "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(put("stubs/" + name), 0o755)
    with open(put("hook.py"), "w", encoding="utf-8") as file:
        file.write(HOOK)
    os.chmod(put("hook.py"), 0o755)
    with open(put("answers.json"), "w", encoding="utf-8") as file:
        json.dump(answers, file)
    note = lambda name: [{"matcher": "Bash", "hooks": [{"type": "command", "command": 'cat >> "$HOME/%s"; echo >> "$HOME/%s"' % (name, name)}]}]
    hooks = {"PostToolUse": note("ran"), "PostToolUseFailure": note("ran"), "PermissionRequest": note("asked"),
             "PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": put("hook.py")}]}]}
    with open(put(".claude/settings.json"), "w", encoding="utf-8") as file:
        json.dump({"permissions": rules, "hooks": hooks}, file)
    # The description tells the calls apart, and comes back where the hook keeps it.
    model = Model([{"command": text, "description": "n%d" % n} for n, text in enumerate(texts)])
    environment = {"HOME": home, "PATH": put("stubs") + ":/usr/bin:/bin", "SHELL": "/bin/bash", "SHLVL": "1", "LANG": "C.UTF-8",
                   "TERM": "dumb", "TMPDIR": home, "ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "not-a-key", "IS_SANDBOX": "1",
                   "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1"}
    try:
        subprocess.run([client, "-p", "go", "--output-format", "json", "--permission-mode", mode], cwd=put("project"), env=environment,
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
    finally:
        model.close()

    def calls(name):
        try:
            with open(put(name), encoding="utf-8") as file:
                return {json.loads(line)["tool_input"].get("description") for line in file if line.strip()}
        except FileNotFoundError:
            return set()
    ran, asked = calls("ran"), calls("asked")
    told = [RAN if "n%d" % n in ran else ASKED if "n%d" % n in asked else DENIED if n in model.results else None for n in range(len(texts))]
    shutil.rmtree(home, ignore_errors=True)
    return told


def check_client(client, results, sample):
    """A sample of the table, whole sessions of it, by the real client."""
    groups = {}
    for judged in results:
        # Auto mode's check is the vendor's server's; plan mode ends a headless session early; what loops or talks is left out.
        skip = judged.case.mode in ("auto", "plan") or any(w in judged.case.text for w in ("while true", "watch", "sudo", "tail -f"))
        if not skip:
            groups.setdefault((json.dumps(judged.case.rules), judged.case.mode), []).append(judged)
    chosen = sorted(groups, key=lambda key: hashlib.sha256(repr(key).encode()).digest())[:sample]
    wrong, count = [], 0
    for rules, mode in chosen:
        members = {j.case.text: j for j in groups[rules, mode]}
        texts = list(members)[:60]
        answers = {}
        for number, text in enumerate(texts):
            if members[text].answer:
                answer = json.loads(members[text].answer)
                answer["hookSpecificOutput"].get("updatedInput", {})["description"] = "n%d" % number
                answers[text] = json.dumps(answer)
        for told, want in ((run_client(client, json.loads(rules), mode, texts, {}), "alone"),
                           (run_client(client, json.loads(rules), mode, texts, answers), "with_cx")):
            for text, got in zip(texts, told):
                judged = members[text]
                expected = Client(judged.case.rules, mode).decides(text) if want == "alone" else judged.with_cx
                # A hook's `ask` with nobody to ask is a refusal.
                same = got == expected or (want == "with_cx" and judged.decision == "ask" and got in (ASKED, DENIED))
                if got is not None:
                    count += 1
                    if not same:
                        wrong.append("%s %s %r %s: the client %s, the model %s" % (rules, mode, text, want, got, expected))
        print("client: %s %s: %d so far, %d told otherwise" % (rules, mode, count, len(wrong)), flush=True)
    print("client: %d calls, %d told otherwise" % (count, len(wrong)))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cx", default=os.path.join(ROOT, "target/debug/cx"))
    parser.add_argument("--every", type=int, default=1, help="take every Nth case only")
    parser.add_argument("-k", dest="word", default="", help="only cases with this in their line")
    parser.add_argument("--client", help="the real client, to compare a sample with")
    parser.add_argument("--sample", type=int, default=12, help="how many sessions of it")
    parser.add_argument("--cases", action="store_true", help="print the cases, for a program that has the hook in it")
    parser.add_argument("--answers", action="store_true", help="read its answers to all of them from standard input")
    options = parser.parse_args()
    everything = cases()
    if options.cases:
        print(json.dumps([{"rules": c.rules, "scope": c.scope, "mode": c.mode, "text": c.text} for c in everything]))
        return 0
    wrong = check_model()
    if options.answers:
        results = [Judged.of(case, answer) for case, answer in zip(everything, json.load(sys.stdin), strict=True)]
        wrong += check_table(results, True)
    else:
        chosen = [case for n, case in enumerate(everything) if n % options.every == 0 and options.word in case.line()]
        results = judge_all(os.path.realpath(options.cx), chosen)
        wrong += check_table(results, len(chosen) == len(everything))
    if options.client:
        wrong += check_client(options.client, results, options.sample)
    for line in wrong[:200]:
        print(line)
    print("%d wrong" % len(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
