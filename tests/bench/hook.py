#!/usr/bin/env python3
"""Measures what `cx hook` costs: the time of the whole process against that of /bin/true.

usage: tests/bench/hook.py [--cx PATH] [--rounds N] [--instructions] [--keep-reference] [--hostile]

Figures of one machine say little; ratios carry over. Measure a static release build (./install.sh). The programs take turns,
so that noise meets all of them alike, and medians are compared. It exits with 1 where one is past its limit: light 1.5 times
/bin/true, heavy 2.0 times, and 1,000 nodes in the table 1.2 times the same command with 3. --hostile measures texts made to take long
instead, in time of the processor, the least of some rounds: 20 ms more than a light command at most.

--instructions counts instructions under callgrind (valgrind) instead, which a busy machine does not disturb, and compares them with
those in hook-instructions.json beside this file: more than a tenth above them is a regression, exit status 1. --keep-reference
writes that file anew; say in the commit why the counts changed.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CASES = {
    "light": "ls -la src && git status --short",
    "heavy": "cd src && FOO=1 timeout 300 pytest -x 2>&1 | tail -20; echo $?",
    "long": " && ".join(f"echo step {i} | sed 's/a/b/' > /dev/null" for i in range(60)) + " && make test",
}

# Limits, as ratios to /bin/true.
LIMITS = {"light": 1.5, "heavy": 2.0}
MANY, FEW = 1000, 3
MANY_LIMIT = 1.2
# Texts made to take long: brackets and here-documents without an end, words that nest, sizes that nobody means.
HOSTILE = {
    f"{unit[:40]!r} ({len(unit)}) {times} times, {where} a heavy command": before + unit * times + after
    for unit, times in [
        ("(", 60_000), ("[", 60_000), ("{ ", 30_000), ("$(", 30_000), ("${x:-", 2_000), ("\"", 60_000), ("'", 60_000), ("`", 60_000),
        ("<<E ", 15_000), ("if ", 20_000), ("case x in ", 6_000), ("a=(", 20_000), ("env ", 7_500), ("env X=1 ", 3_700), ("> a ", 7_500), ("a=(b) ", 5_000), ("timeout 1 ", 6_000),
        ("cx ", 20_000), ("\n", 60_000), ("{", 60_000), ("{a,", 20_000), ("2>&1 ", 12_000), ("x\n", 30_000), ("$(a) ", 12_000), ("`a` ", 15_000),
        ("(a); ", 12_000), ("cd a; ", 10_000), ("a & ", 15_000), ("[[ a ]]; ", 6_600), ("${x:-a} ", 7_500), ("$((1)) ", 8_500),
        ("f() { a; }; ", 5_000), ("if a; then b; fi; ", 3_300), ("cat <<EOF\n" + "x $(foo)\n" * 6_000 + "EOF\n", 1), ("make test; ", 1 << 20), ("x", 10 << 20), ("c\\x;", 2 << 20),
    ]
    for where, before, after in [("before", "", "make test"), ("after", "make test; ", " x")]
}
HOSTILE_MS = 20.0
HOSTILE_ROUNDS = 11
REFERENCE = pathlib.Path(__file__).with_name("hook-instructions.json")
TOLERANCE = 1.10


def find_cx():
    root = pathlib.Path(__file__).resolve().parents[2]
    built = [*root.glob("target/*/release/cx"), *root.glob("target/release/cx"), *root.glob("target/debug/cx")]
    return str(built[0]) if built else shutil.which("cx")


def request(command, cwd):
    return json.dumps({
        "session_id": "bench", "transcript_path": "", "cwd": cwd, "permission_mode": "default",
        "hook_event_name": "PreToolUse", "tool_name": "Bash",
        "tool_input": {"command": command, "description": "A benchmark"}, "tool_use_id": "bench",
    }).encode()


def once(argv, env, cwd, stdin_path, output, cpu=False):
    """Milliseconds that one process took; with `cpu` those of the processor, which others on the machine hardly change."""
    with open(stdin_path, "rb") as stdin:
        begin = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, env, file_actions=[
            (os.POSIX_SPAWN_DUP2, stdin.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
        ])
        _, status, used = os.wait4(pid, 0)
        took = used.ru_utime + used.ru_stime if cpu else time.perf_counter() - begin
    if status != 0:
        sys.exit(f"{' '.join(argv)} ended with status {os.waitstatus_to_exitcode(status)}")
    return took * 1000


class World:
    """A home with a config of `nodes` nodes, a table that knows each of them, and a project."""

    def __init__(self, top, cx, nodes):
        home = pathlib.Path(top, f"home{nodes}")
        self.cwd = str(home / "project")
        os.makedirs(os.path.join(self.cwd, "src"))
        pathlib.Path(self.cwd, "Makefile").write_text("test:\n\ttrue\n")
        config = home / "config.toml"
        config.write_text(f"nodes = {json.dumps([f'n{i}' for i in range(nodes)])}\n")
        config.chmod(0o600)
        # Nothing answers on these nodes: asking them all once fills the table.
        ssh = home / "bin/ssh"
        ssh.parent.mkdir()
        ssh.write_text("#!/bin/sh\nexit 255\n")
        ssh.chmod(0o755)
        self.env = {"HOME": str(home), "PATH": f"{ssh.parent}:{os.environ['PATH']}", "CX_CONFIG": str(config)}
        subprocess.run([cx, "refresh"], env=self.env, cwd=self.cwd, capture_output=True, check=False, timeout=600)
        known = json.loads(subprocess.run([cx, "status", "--json"], env=self.env, cwd=self.cwd, capture_output=True, check=True).stdout)
        listed = known["nodes"] if isinstance(known, dict) else known
        if len([n for n in listed if (n.get("name") if isinstance(n, dict) else n) != "local"]) < nodes:
            sys.exit(f"the table knows {len(listed)} nodes instead of {nodes}")
        # Failures are forgotten after a while, and the summary with them; a bench wants nodes that may be used.
        for summary in (home / ".cache/cx").glob("hook-*.json"):
            view = json.loads(summary.read_text())
            view["none_usable_until_ms"] = 0
            summary.write_text(json.dumps(view))
        self.requests = {}
        for name, command in CASES.items():
            path = home / f"{name}.json"
            path.write_bytes(request(command, self.cwd))
            self.requests[name] = str(path)
        for name in CASES:
            with open(self.requests[name], "rb") as stdin:
                done = subprocess.run([cx, "hook"], stdin=stdin, env=self.env, cwd=self.cwd, capture_output=True, check=True)
            rewritten = b"updatedInput" in done.stdout
            if rewritten != (name != "light"):
                sys.exit(f"the case `{name}` was {'' if rewritten else 'not '}rewritten: {done.stdout!r} {done.stderr!r}")


def instructions(cx, world, keep):
    if not shutil.which("valgrind"):
        sys.exit("--instructions needs valgrind: apt-get install valgrind")
    counts = {}
    for name in CASES:
        with open(world.requests[name], "rb") as stdin:
            done = subprocess.run(
                ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", cx, "hook"],
                stdin=stdin, env=world.env, cwd=world.cwd, capture_output=True, text=True, check=True)
        counts[name] = int(re.search(r"Collected : (\d+)", done.stderr).group(1))
    if keep:
        REFERENCE.write_text(json.dumps(counts, indent=2) + "\n")
    known = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    worse = False
    print(f"{'':8}{'instructions':>14}{'reference':>12}{'ratio':>8}")
    for name, count in counts.items():
        before = known.get(name)
        ratio = count / before if before else float("nan")
        worse |= bool(before) and ratio > TOLERANCE
        print(f"{name:8}{count:14}{before or '-':>12}{ratio:8.2f}")
    return 1 if worse else 0


def hostile(cx, world):
    """Times the texts of HOSTILE; the exit status."""
    path = pathlib.Path(world.cwd, "hostile.json")
    missed = []
    with open(os.devnull, "wb") as output:
        def least(path):
            return min(once([cx, "hook"], world.env, world.cwd, path, output, cpu=True) for _ in range(HOSTILE_ROUNDS))

        light = least(world.requests["light"])
        print(f"light: {light:.1f} ms of the processor; more than that, at most {HOSTILE_MS:.0f}:")
        for name, text in HOSTILE.items():
            path.write_bytes(request(text, world.cwd))
            more = least(str(path)) - light
            print(f"{more:8.1f}  {name}")
            if more > HOSTILE_MS:
                missed.append(f"{name}: {more:.1f} ms")
    if missed:
        print("past the limit: " + "; ".join(missed), file=sys.stderr)
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(description="Measures what `cx hook` costs against /bin/true.")
    parser.add_argument("--cx", default=find_cx(), help="the program to measure")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--instructions", action="store_true", help="count instructions under callgrind instead of time")
    parser.add_argument("--keep-reference", action="store_true", help="with --instructions: keep the counts as the reference")
    parser.add_argument("--hostile", action="store_true", help="time texts made to take long")
    options = parser.parse_args()
    if not options.cx:
        sys.exit("there is no cx to measure: run ./install.sh, or name one with --cx PATH")
    cx = os.path.abspath(options.cx)
    true = shutil.which("true")

    with tempfile.TemporaryDirectory() as top:
        few = World(top, cx, FEW)
        if options.instructions:
            sys.exit(instructions(cx, few, options.keep_reference))
        if options.hostile:
            sys.exit(hostile(cx, few))
        many = World(top, cx, MANY)
        worlds = {name: (few, name) for name in CASES} | {f"{name} {MANY}": (many, name) for name in LIMITS}
        times = {name: [] for name in ["true", *worlds]}
        with open(os.devnull, "wb") as output:
            for _ in range(options.rounds):
                times["true"].append(once([true], few.env, few.cwd, os.devnull, output))
                for name, (world, case) in worlds.items():
                    times[name].append(once([cx, "hook"], world.env, world.cwd, world.requests[case], output))

    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{cx}, {options.rounds} rounds; `{MANY}`: with that many nodes in the table, else {FEW}")
    print(f"{'':12}{'median ms':>10}{'p95 ms':>10}{'x true':>8}{'limit':>8}")
    missed = []
    for name, values in times.items():
        values.sort()
        ratio = medians[name] / medians["true"]
        limit = LIMITS.get(name)
        if limit and ratio > limit:
            missed.append(f"{name}: {ratio:.2f} times /bin/true, limit {limit}")
        print(f"{name:12}{medians[name]:10.2f}{values[int(len(values) * 0.95)]:10.2f}{ratio:8.2f}{limit or '':>8}")
    for name in LIMITS:
        ratio = medians[f"{name} {MANY}"] / medians[name]
        print(f"{name} with {MANY} nodes against {FEW}: {ratio:.2f} (limit {MANY_LIMIT})")
        if ratio > MANY_LIMIT:
            missed.append(f"{name} with {MANY} nodes: {ratio:.2f} times that with {FEW}")
    if missed:
        sys.exit("past the limit: " + "; ".join(missed))


if __name__ == "__main__":
    main()
