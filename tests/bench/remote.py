#!/usr/bin/env python3
"""Measures what runs on nodes cost, each against its peer in the same, interleaved, run.

usage: tests/bench/remote.py CASE... [options]        (tests/bench/README.md says more)

  push    one changed file goes up, a command runs, one file comes back; against rsync, ssh and rsync
  same    nothing changed, `true` runs; against `true` over ssh
  first   the first sync of a tree; against tar, zstd and ssh
  large   100k files: work here against `git status`, growth, memory here and on the node
  stream  output in MB a second, against ssh; CPU used here while a command burns CPU there
  all     these
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import world
from world import World, line, median


def push(w, report, options):
    root = w.tree("push", options.files or 10_000)
    changed = root / "src0/part0/file0.c"
    base = changed.read_text()
    command = "wc -c < src0/part0/file0.c > result.txt"
    result = root / "result.txt"
    peer = w.top / "push-peer"
    subprocess.run(["cp", "-a", root, peer], check=True)
    there = "cx-bench-push"
    times = {}
    for rtt, node in w.nodes.items():
        shell = "ssh -F {} -S {}".format(w.ssh_config, w.masters[node])
        # Results of one size within one second differ in the parts of it only.
        rsync = ["rsync", "-a", "--modify-window=-1"]
        up = [*rsync, "--delete", "--exclude=/.git/", "-e", shell, f"{peer}/", f"{node}:{there}/"]
        run = [*w.ssh(node), f"cd {there} && {command}"]
        down = [*rsync, "-e", shell, f"{node}:{there}/result.txt", f"{peer}/"]
        w.run(w.on(node, "sh", "-c", command), root)
        w.run(up, peer)
        ours, theirs = [], []
        for i in range(options.rounds):
            text = base + "x" * (i + 1) + "\n"
            want = len(text.encode())
            changed.write_text(text)
            ours.append(w.run(w.on(node, "sh", "-c", command), root)[0] * 1000)
            check(result, want)
            (peer / changed.relative_to(root)).write_text(text)
            theirs.append(sum(w.run(step, peer)[0] for step in (up, run, down)) * 1000)
            check(peer / "result.txt", want)
        w.run([*w.ssh(node), f"rm -rf {there}"], w.top)
        times[rtt] = (median(ours), median(theirs))
        report.say(f"push one, run, bring one back, {rtt:g} ms: cx {times[rtt][0]:.1f} ms, rsync+ssh+rsync {times[rtt][1]:.1f} ms")
    if 0 in times:
        report.claim("push on loopback against rsync+ssh+rsync", times[0][0] / times[0][1], 0.35)
    far = [(rtt, t[0]) for rtt, t in times.items() if rtt > 0]
    if len(far) > 1:
        slope, rest = line(far)
        report.claim("push, round trips (slope)", slope, 3.2, " RTT")
        report.claim("push, the rest", rest, 40, " ms")


def check(path, want):
    got = path.read_text().strip()
    if got != str(want):
        sys.exit(f"{path} holds {got!r}, not {want}: the command did not see the change")


def same(w, report, options):
    root = w.tree("same", options.files or 1000)
    for rtt, node in w.nodes.items():
        cx, ssh = w.on(node, "true"), [*w.ssh(node, "-n"), "true"]
        for _ in range(2):
            w.run(cx, root)
            w.run(ssh, root)
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(w.run(cx, root)[0] * 1000)
            theirs.append(w.run(ssh, root)[0] * 1000)
        a, b = median(ours), median(theirs)
        report.say(f"nothing changed, `true`, {rtt:g} ms: cx {a:.1f} ms, ssh {b:.1f} ms, x{a / b:.2f}")
        if rtt > 0:
            report.claim(f"`true` against ssh at {rtt:g} ms", a / b, 1.5)


def first(w, report, options):
    files = options.files or 10_000
    rounds = max(3, options.rounds // 2)
    for rtt, node in w.nodes.items():
        ours, theirs = [], []
        w.run(w.on(node, "true"), w.tree(f"warm{rtt:g}", 10))
        for i in range(rounds):
            root = w.tree(f"first{rtt:g}-{i}", files, files * 5000, seed=i)
            # Both find the files in the page cache.
            subprocess.run(["tar", "--exclude=.git", "-cf", "/dev/null", "."], cwd=root, check=True, stdout=subprocess.DEVNULL)
            there = f"cx-bench-first-{i}"
            line_there = f"mkdir {there} && cd {there} && zstd -dc | tar xf -"
            ssh = " ".join([*w.ssh(node), f"'{line_there}'"])

            def tar():
                theirs.append(w.run(["sh", "-c", f"tar -cf - --exclude=./.git . | zstd -qc | {ssh}"], root)[0])

            def cx():
                ours.append(w.run(w.on(node, "true"), root)[0])

            for one in (tar, cx) if i % 2 else (cx, tar):
                one()
            w.run([*w.ssh(node), f"rm -rf {there}"], w.top)
            shutil.rmtree(root)
        a, b = median(ours), median(theirs)
        report.say(f"first sync, {files} files, {rtt:g} ms: cx {a:.2f} s, tar|zstd|ssh {b:.2f} s")
        report.claim(f"first sync against tar|zstd|ssh at {rtt:g} ms", a / b, 1.1)


class Watch(threading.Thread):
    """The largest resident sizes (KB) of cx's processes on the own node, by what they are."""

    def __init__(self, home):
        super().__init__(daemon=True)
        self.home = str(home)
        self.peak = {}
        self.ended = False

    def run(self):
        known = {}
        while not self.ended:
            for path in pathlib.Path("/proc").glob("[0-9]*"):
                if path in known and known[path] is None:
                    continue
                try:
                    if path not in known:
                        exe = os.readlink(path / "exe")
                        args = (path / "cmdline").read_bytes().split(b"\0")
                        ours = exe.startswith(self.home) and b"agent" in args
                        known[path] = ("supervisor" if b"--supervise" in args else "agent") if ours else None
                        continue
                    for text in (path / "status").read_text().splitlines():
                        if text.startswith("VmHWM:"):
                            kind = known[path]
                            self.peak[kind] = max(self.peak.get(kind, 0), int(text.split()[1]))
                except OSError:
                    known.pop(path, None)
            time.sleep(0.002)


def large(w, report, options):
    node = next(iter(w.nodes.values()))
    local, cpu, rss = {}, {}, 0
    sizes = (10_000, options.files or 100_000)
    roots = {n: w.tree(f"large{n}", n, n * 512) for n in sizes}
    for n, root in roots.items():
        w.run(w.on(node, "true"), root)
        w.run(["git", "status", "--porcelain"], root)
    watch = Watch(w.node_home) if w.node_home else None
    if watch:
        watch.start()
    for n, root in roots.items():
        ours, git, ours_cpu, whole = [], [], [], []
        w.run(w.on(node, "true"), root)
        for _ in range(options.rounds):
            took, usage = w.run(w.on(node, "true"), root)
            whole.append(took * 1000)
            ours.append(w.last_run()["local_ms"])
            ours_cpu.append((usage.ru_utime + usage.ru_stime) * 1000)
            rss = max(rss, usage.ru_maxrss)
            git.append(w.run(["git", "--no-optional-locks", "status", "--porcelain"], root)[0] * 1000)
        local[n], cpu[n] = (median(ours), median(git)), median(ours_cpu)
        report.say(f"nothing changed, {n} files: cx {median(whole):.0f} ms in all, {local[n][0]:.0f} ms of work here "
                   f"({cpu[n]:.0f} ms CPU); git status {local[n][1]:.0f} ms")
    small, big = sizes
    report.claim(f"work here for {big} files against git status", local[big][0] / local[big][1], 1.5)
    report.claim(f"growth from {small} to {big} files against linear", local[big][0] / local[small][0] / (big / small), 1.0)
    report.claim("memory of cx", rss / 1024, 60, " MB")
    if watch:
        watch.ended = True
        watch.join()
        report.say(f"memory on the node: {', '.join(f'{k} {v / 1024:.0f} MB' for k, v in sorted(watch.peak.items()))}")
        report.claim("memory of agent and supervisor", sum(watch.peak.values()) / 1024, 60, " MB")


def stream(w, report, options):
    node = next(iter(w.nodes.values()))
    root = w.tree("stream", 10)
    size = options.megabytes
    command = f"dd if=/dev/zero bs=65536 count={size * 16} status=none"
    w.run(w.on(node, "true"), root)
    ours, theirs, rss = [], [], 0
    for _ in range(max(3, options.rounds // 2)):
        took, usage = w.run(w.on(node, "sh", "-c", command), root)
        ours.append(size / took)
        rss = max(rss, usage.ru_maxrss)
        theirs.append(size / w.run([*w.ssh(node), command], root)[0])
    a, b = median(ours), median(theirs)
    report.say(f"output, {size} MB: cx {a:.0f} MB/s, ssh {b:.0f} MB/s; memory of cx {rss / 1024:.0f} MB")
    report.claim("throughput of output against ssh", a / b, 0.8, at_least=True)
    # The other extreme: what no compression makes smaller.
    noise, times = "$HOME/cx-bench-noise", max(1, size // 16)
    w.run([*w.ssh(node), f"head -c 16777216 /dev/urandom > {noise}"], root)
    command = f"for i in $(seq {times}); do cat {noise}; done"
    ours, theirs = [], []
    for _ in range(max(3, options.rounds // 2)):
        ours.append(times * 16 / w.run(w.on(node, "sh", "-c", command), root)[0])
        theirs.append(times * 16 / w.run([*w.ssh(node), command], root)[0])
    w.run([*w.ssh(node), f"rm {noise}"], root)
    a, b = median(ours), median(theirs)
    report.say(f"output that does not shrink, {times * 16} MB: cx {a:.0f} MB/s, ssh {b:.0f} MB/s, x{a / b:.2f}")
    burn = f"timeout {options.burn} sh -c 'while :; do :; done'; true"
    before = master_cpu(w)
    took, usage = w.run(w.on(node, "sh", "-c", burn), root)
    used = usage.ru_utime + usage.ru_stime + master_cpu(w) - before
    report.say(f"a command that burns {options.burn} s there: {used * 1000:.0f} ms CPU here, the ssh master's included")
    report.claim("CPU here for CPU there", used / options.burn * 100, 1, " %")


def master_cpu(w):
    """CPU seconds of cx's own masters so far."""
    total = 0.0
    mark = str(w.home).encode()
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            args = (path / "cmdline").read_bytes()
            if args.startswith(b"ssh") and mark in args:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            pass
    return total


CASES = {f.__name__: f for f in (push, same, first, large, stream)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=[*CASES, "all"], metavar="CASE")
    world.add_arguments(parser)
    parser.add_argument("--files", type=int, help="another number of files than the claim's")
    parser.add_argument("--megabytes", type=int, default=512, help="output of `stream` (default: 512)")
    parser.add_argument("--burn", type=int, default=60, help="CPU seconds that `stream` burns (default: 60)")
    options = parser.parse_args()
    cases = list(CASES) if "all" in options.cases else options.cases
    report = world.Report(options.json)
    report.say(f"{options.cx}, {options.rounds} rounds, medians")
    for name in cases:
        with World(options) as w:
            CASES[name](w, report, options)
    sys.exit(0 if report.held else 1)


if __name__ == "__main__":
    main()
