"""Measures `cx mcp`: its start against /bin/true's, and batches of commands on five nodes.

    tests/bench/mcp.py [--cx CX] [--rounds N] [start|sleeps|bulk|all]

start   from the spawn to the first answer, for both eras of the protocol, interleaved with /bin/true: at most 4 times as long
sleeps  five times `sleep 1` by one parallel_execute on five nodes: below 2 s
bulk    32 commands that print 200 KB each, by one parallel_execute on five nodes, against the same by plain ssh

The nodes are sshds of the benchmark's own on loopback. Measure a release build that is linked statically, which is what is installed
(see install.sh). The exit status is 1 where a claim does not hold."""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from world import Sshd, find_cx

INFO = {"name": "bench", "version": "1"}
OLD = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": INFO}
META = "io.modelcontextprotocol/"
NEW = {"_meta": {META + "protocolVersion": "2026-07-28", META + "clientInfo": INFO, META + "clientCapabilities": {}}}
NODES = 5
BULK = "i=0; while [ $i -lt 2000 ]; do echo \"$i Größe {0} the quick brown fox jumps over the lazy dog; the quick brown fox jumps\"; i=$((i+1)); done"


def request(number, method, params):
    return (json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n").encode()


class Bench:
    def __init__(self, options):
        self.cx = os.path.abspath(options.cx)
        self.rounds = options.rounds
        self.closing = contextlib.ExitStack()
        self.top = pathlib.Path(self.closing.enter_context(tempfile.TemporaryDirectory(prefix="cxm-", dir="/tmp")))
        self.home = self.top / "home"
        (self.home / "work").mkdir(parents=True)
        self.env = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        self.well = True

    def claim(self, text, holds):
        print(f"{'ok  ' if holds else 'FAIL'} {text}")
        self.well &= holds

    def server(self):
        return subprocess.Popen([self.cx, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env, cwd=self.home / "work")

    def start(self):
        def true():
            subprocess.run(["/bin/true"], env=self.env, check=True)

        def answer(line):
            def once():
                p = self.server()
                os.write(p.stdin.fileno(), line)
                first = p.stdout.readline()
                took = time.perf_counter()
                assert b'"result"' in first, first
                p.stdin.close()
                p.wait()
                return took

            return once

        kinds = {
            "/bin/true": true,
            "initialize": answer(request(1, "initialize", OLD)),
            "server/discover": answer(request(1, "server/discover", NEW)),
        }
        times = {name: [] for name in kinds}
        for _ in range(self.rounds):
            for name, once in kinds.items():
                begun = time.perf_counter()
                end = once() or time.perf_counter()
                times[name].append((end - begun) * 1000)
        base = statistics.median(times.pop("/bin/true"))
        print(f"     /bin/true {base:.2f} ms")
        for name, all_ in times.items():
            median = statistics.median(all_)
            self.claim(f"{name}: {median:.2f} ms, {median / base:.2f} times /bin/true (at most 4)", median <= 4 * base)

    @contextlib.contextmanager
    def nodes(self):
        """Five nodes that cx knows, each of which has answered once, and a session with a server."""
        blocks, known = [], []
        for n in range(NODES):
            sshd = Sshd(self.top / f"sshd{n}")
            self.closing.callback(sshd.stop)
            known.append(f"[127.0.0.1]:{sshd.port} {sshd.host_key}")
            blocks.append(f"Host n{n}\n  HostName 127.0.0.1\n  Port {sshd.port}\n  IdentityFile {sshd.dir}/key\n  IdentitiesOnly yes\n"
                          f"  IdentityAgent none\n  UserKnownHostsFile {self.top}/known\n  StrictHostKeyChecking yes\n")
        (self.top / "known").write_text("".join(known))
        self.ssh_config = self.top / "ssh_config"
        self.ssh_config.write_text("\n".join(blocks))
        names = [f"n{n}" for n in range(NODES)]
        config = self.home / ".config/cx/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'nodes = {json.dumps(names)}\n[ssh]\nconfig = "{self.ssh_config}"\n[policy]\nallow_overload = true\n'
                          + "".join(f"[node.{n}]\nslots = 8\n" for n in names))
        config.chmod(0o600)
        subprocess.run(["git", "init", "-q", self.home / "work"], check=True)
        server = self.server()
        self.closing.callback(self.leave, server)
        server.stdin.write(request(1, "initialize", OLD) + b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        server.stdin.flush()
        server.stdout.readline()
        for name in names:
            self.call(server, "offload_to", node_id=name, command="true")
        yield server

    def leave(self, server):
        server.stdin.close()
        server.wait()
        for control in (self.home / ".cache/cx/ctl").glob("*"):
            if control.is_socket():
                subprocess.run(["ssh", "-F", self.ssh_config, "-S", control, "-O", "exit", "n0"], capture_output=True)

    @staticmethod
    def call(server, tool, **arguments):
        """Seconds that a call took, and its text."""
        begun = time.perf_counter()
        server.stdin.write(request(2, "tools/call", {"name": tool, "arguments": arguments}))
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        took = time.perf_counter() - begun
        result = answer["result"]
        if result.get("isError"):
            sys.exit(f"{tool}: {result['content'][0]['text']}")
        return took, result["content"][0]["text"]

    def sleeps(self, server):
        times = []
        for _ in range(min(self.rounds, 11)):
            took, text = self.call(server, "parallel_execute", commands=["sleep 1"] * NODES)
            assert text.startswith("5 commands: 5 ok; "), text
            places = text.split("\n", 1)[0].rsplit("; ", 1)[1]
            times.append((took, places))
        median = statistics.median(t for t, _ in times)
        self.claim(f"five times `sleep 1` on five nodes: {median:.2f} s (below 2; the last: {times[-1][1]})", median < 2)

    def bulk(self, server):
        commands = [BULK.format(n) for n in range(32)]
        times, plain = [], []
        for _ in range(min(self.rounds, 5)):
            took, text = self.call(server, "parallel_execute", commands=commands)
            assert text.startswith("32 commands: 32 ok; ") and len(text.encode()) <= 30_000, text[:200]
            times.append(took)
            begun = time.perf_counter()
            children = [subprocess.Popen(["ssh", "-F", self.ssh_config, f"n{n % NODES}", c], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL) for n, c in enumerate(commands)]
            for child in children:
                child.wait()
            plain.append(time.perf_counter() - begun)
        cx, ssh = statistics.median(times), statistics.median(plain)
        self.claim(f"32 times 200 KB on five nodes: {cx:.2f} s, by plain ssh {ssh:.2f} s (at most twice that)", cx <= 2 * ssh)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cx", default=find_cx(), help="the program to measure (a release build)")
parser.add_argument("--rounds", type=int, default=200)
parser.add_argument("what", nargs="?", choices=["start", "sleeps", "bulk", "all"], default="all")
options = parser.parse_args()
bench = Bench(options)
with bench.closing:
    if options.what in ("start", "all"):
        bench.start()
    if options.what != "start":
        with bench.nodes() as server:
            if options.what in ("sleeps", "all"):
                bench.sleeps(server)
            if options.what in ("bulk", "all"):
                bench.bulk(server)
sys.exit(0 if bench.well else 1)
