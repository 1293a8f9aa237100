#!/usr/bin/env python3
"""Measures what `cx init` adds to the start of a shell: bash, zsh and fish, those that are installed.

usage: tests/bench/shell.py [--cx PATH] [--rounds N]

Each shell starts interactively with an rc file that evaluates what `cx init` prints, and with an empty one, in turns, so that noise
meets both alike. What counts is the difference of the medians: at most 5 ms, or the exit status is 1. A prompt's cost is shown, too: one
where PATH is as it was, and one where it changed and the tools are looked for again. PATH is that of the caller; its length matters.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import hook

LIMIT_MS = 5.0
PROMPTS = 200


class Shell:
    """How a shell is started, with or without cx."""

    def __init__(self, name, top, cx):
        self.name = name
        self.program = shutil.which(name)
        self.homes = {}
        for kind in ("plain", "cx"):
            home = pathlib.Path(top, f"{name}-{kind}")
            (home / ".config/fish").mkdir(parents=True)
            load = f"{cx} init fish | source\n" if name == "fish" else f'eval "$({cx} init {name})"\n'
            rc = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}[name]
            (home / rc).write_text(load if kind == "cx" else "")
            self.homes[kind] = home

    def once(self, kind, text="exit 0"):
        home = self.homes[kind]
        env = {"HOME": str(home), "PATH": os.environ["PATH"], "XDG_CONFIG_HOME": f"{home}/.config", "TERM": "dumb"}
        begin = time.perf_counter()
        done = subprocess.run([self.program, "-ic", text], env=env, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        took = (time.perf_counter() - begin) * 1000
        if done.returncode != 0:
            sys.exit(f"{self.name}: status {done.returncode}: {done.stdout}{done.stderr}")
        return took, done.stdout

    def prompt(self, change):
        """Milliseconds of one prompt; fish has no clock, so that all of them together are timed."""
        each = {
            # Reset, so that the search that comes now and then is no part of it.
            ("bash", False): "__cx_prompts=0; __cx_prompt", ("bash", True): "__cx_path=; __cx_prompt",
            ("fish", False): "set __cx_prompts 0; __cx_prompt", ("fish", True): "set __cx_path; __cx_prompt",
        }["fish" if self.name == "fish" else "bash", change]
        times = PROMPTS // 10 if change else PROMPTS
        loop = "for i in (seq {}); {}; end" if self.name == "fish" else "for i in $(seq {}); do {}; done"
        nothing = "true" if self.name == "fish" else ":"
        with_cx, without = ([self.once("cx", loop.format(times, what))[0] for _ in range(5)] for what in (each, nothing))
        return (statistics.median(with_cx) - statistics.median(without)) / times


def main():
    parser = argparse.ArgumentParser(description="Measures what `cx init` adds to the start of a shell.")
    parser.add_argument("--cx", default=hook.find_cx(), help="the program to measure")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    if not options.cx:
        sys.exit("there is no cx to measure: run ./install.sh, or name one with --cx PATH")
    cx = os.path.abspath(options.cx)
    missed = []
    with tempfile.TemporaryDirectory() as top:
        shells = [Shell(name, top, cx) for name in ("bash", "zsh", "fish") if shutil.which(name)]
        for shell in shells:
            # The functions are there; and what is made once is made.
            ask = "functions -q env" if shell.name == "fish" else "typeset -f env >/dev/null"
            shell.once("cx", ask)
        print(f"{cx}, {options.rounds} rounds, {len(os.environ['PATH'].split(':'))} directories on PATH; ms")
        print(f"{'':6}{'plain':>8}{'with cx':>9}{'added':>8}{'limit':>7}{'prompt':>9}{'PATH changed':>14}")
        for shell in shells:
            times = {"plain": [], "cx": []}
            for _ in range(options.rounds):
                for kind, list_ in times.items():
                    list_.append(shell.once(kind)[0])
            plain, with_cx = (statistics.median(times[kind]) for kind in ("plain", "cx"))
            added = with_cx - plain
            print(f"{shell.name:6}{plain:8.2f}{with_cx:9.2f}{added:8.2f}{LIMIT_MS:7.1f}{shell.prompt(False):9.3f}{shell.prompt(True):14.2f}")
            if added > LIMIT_MS:
                missed.append(f"{shell.name}: {added:.2f} ms")
    if missed:
        sys.exit("past the limit: " + "; ".join(missed))


if __name__ == "__main__":
    main()
