"""Measures `cx mcp` against /bin/true, interleaved: from the spawn to the first answer, for both eras of the protocol.

    tests/bench/mcp.py PATH_OF_CX [ROUNDS]

Prints medians in milliseconds and the ratio. A release build that is linked statically is what is installed (see install.sh)."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CX = os.path.abspath(sys.argv[1])
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 200
HOME = tempfile.mkdtemp()
ENV = {"HOME": HOME, "PATH": "/usr/bin:/bin"}
INFO = {"name": "bench", "version": "1"}
OLD = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": INFO}
META = "io.modelcontextprotocol/"
NEW = {"_meta": {META + "protocolVersion": "2026-07-28", META + "clientInfo": INFO, META + "clientCapabilities": {}}}


def request(method, params):
    return (json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n").encode()


def true():
    begun = time.perf_counter()
    subprocess.run(["/bin/true"], env=ENV, check=True)
    return time.perf_counter() - begun


def answer(line):
    def once():
        begun = time.perf_counter()
        p = subprocess.Popen([CX, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV, cwd=HOME)
        os.write(p.stdin.fileno(), line)
        first = p.stdout.readline()
        took = time.perf_counter() - begun
        assert b'"result"' in first, first
        p.stdin.close()
        p.wait()
        return took

    return once


kinds = {
    "/bin/true": true,
    "initialize": answer(request("initialize", OLD)),
    "server/discover": answer(request("server/discover", NEW)),
}
times = {name: [] for name in kinds}
for _ in range(ROUNDS):
    for name, once in kinds.items():
        times[name].append(once() * 1000)
base = statistics.median(times["/bin/true"])
for name, list_ in times.items():
    median = statistics.median(list_)
    print(f"{name:16} {median:6.2f} ms  x{median / base:.2f}")
shutil.rmtree(HOME)
