#!/usr/bin/env python3
"""Measures what `cx hook` costs: the time of the whole process against that of /bin/true.

usage: tests/bench/hook.py [--cx PATH] [--rounds N]

Figures of one machine say little; ratios carry over. Measure a release build (./install.sh). The programs take turns,
so that noise meets all of them alike, and medians are compared.
"""

import argparse
import json
import os
import pathlib
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


def once(argv, env, cwd, stdin_path, output):
    with open(stdin_path, "rb") as stdin:
        begin = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, env, file_actions=[
            (os.POSIX_SPAWN_DUP2, stdin.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
        ])
        _, status = os.waitpid(pid, 0)
        took = time.perf_counter() - begin
    if status != 0:
        sys.exit(f"{' '.join(argv)} ended with status {os.waitstatus_to_exitcode(status)}")
    return took * 1000


def main():
    parser = argparse.ArgumentParser(description="Measures what `cx hook` costs against /bin/true.")
    parser.add_argument("--cx", default=find_cx(), help="the program to measure")
    parser.add_argument("--rounds", type=int, default=400)
    options = parser.parse_args()
    if not options.cx:
        sys.exit("there is no cx to measure: run ./install.sh, or name one with --cx PATH")
    cx = os.path.abspath(options.cx)
    true = shutil.which("true")

    with tempfile.TemporaryDirectory() as top:
        project = os.path.join(top, "project")
        os.makedirs(os.path.join(project, "src"))
        pathlib.Path(project, "Makefile").write_text("test:\n\ttrue\n")
        config = pathlib.Path(top, "config.toml")
        config.write_text("".join(f"[node.n{i}]\n" for i in range(8)))
        config.chmod(0o600)
        env = {"HOME": top, "PATH": os.environ["PATH"], "CX_CONFIG": str(config)}
        requests = {}
        for name, command in CASES.items():
            requests[name] = os.path.join(top, name + ".json")
            pathlib.Path(requests[name]).write_bytes(request(command, project))

        for name in CASES:
            with open(requests[name], "rb") as stdin:
                done = subprocess.run([cx, "hook"], stdin=stdin, env=env, cwd=project, capture_output=True, check=True)
            rewritten = b"updatedInput" in done.stdout
            if rewritten != (name != "light"):
                sys.exit(f"the case `{name}` was {'' if rewritten else 'not '}rewritten: {done.stdout!r} {done.stderr!r}")

        times = {name: [] for name in ["true", *CASES]}
        with open(os.devnull, "wb") as output:
            for _ in range(options.rounds):
                times["true"].append(once([true], env, project, os.devnull, output))
                for name in CASES:
                    times[name].append(once([cx, "hook"], env, project, requests[name], output))

    base = statistics.median(times["true"])
    print(f"{cx}, {options.rounds} rounds")
    print(f"{'':8}{'median ms':>10}{'p95 ms':>10}{'x true':>8}")
    for name, values in times.items():
        values.sort()
        median = statistics.median(values)
        print(f"{name:8}{median:10.2f}{values[int(len(values) * 0.95)]:10.2f}{median / base:8.2f}")


if __name__ == "__main__":
    main()
