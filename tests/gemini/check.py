#!/usr/bin/env python3
"""Checks `cx hook --gemini` with the real Gemini CLI: a scripted model asks for a command, and the check looks at what ran.

    tests/gemini/check.py [--cx target/debug/cx]

The client is the one that CX_TEST_GEMINI names, else the first `gemini` on PATH; without one the check is skipped with exit status
77. It runs with an empty environment, a HOME of its own and a model on loopback; it needs no account.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = os.path.dirname(os.path.abspath(__file__))
POLICY = '[[rule]]\ntoolName = "run_shell_command"\ncommandPrefix = "pytest"\ndecision = "deny"\npriority = 100\n'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        parts = [p for c in request.get("contents", []) for p in c.get("parts", [])]
        answered = [p["functionResponse"] for p in parts if "functionResponse" in p]
        if answered:
            self.server.results = answered
        declared = "run_shell_command" in json.dumps(request.get("tools", []))
        part = {"text": "done"}
        if declared and not answered:
            part = {"functionCall": {"name": "run_shell_command",
                                     "args": {"command": self.server.command, "description": "d"}}}
        answer = {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
                  "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}
        stream = "stream" in self.path
        body = ("data: %s\n\n" % json.dumps(answer) if stream else json.dumps(answer)).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if stream else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def run(client, cx, command, policy=""):
    """What the model was answered, and what the client said."""
    home = os.path.realpath(tempfile.mkdtemp(prefix="cx-gemini-"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.command, server.results = command, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name in ("bin", "project", ".gemini/policies", ".config/cx"):
            os.makedirs(os.path.join(home, name))
        os.symlink(cx, os.path.join(home, "bin/cx"))
        for name, text in (("bin/pytest", "#!/bin/sh\necho plain $*\n"),
                           (".config/cx/config.toml", 'nodes = ["tower"]\n'), (".gemini/policies/own.toml", policy),
                           (".gemini/settings.json", '{"security": {"auth": {"selectedType": "gemini-api-key"}}}')):
            with open(os.path.join(home, name), "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(os.path.join(home, name), 0o700)
        if not policy:
            os.remove(os.path.join(home, ".gemini/policies/own.toml"))
        environment = {"HOME": home, "PATH": os.path.join(home, "bin") + ":" + os.path.dirname(shutil.which("node") or "/usr/bin/node")
                       + ":/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8", "SHELL": "/bin/bash", "NO_BROWSER": "1",
                       "GEMINI_API_KEY": "not-a-key", "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:%d" % server.server_port,
                       "GEMINI_CLI_TRUST_WORKSPACE": "true"}
        subprocess.run(["cx", "setup", "gemini", "--yes"], env=environment, check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        done = subprocess.run([client, "-p", "go", "-y", "-m", "gemini-2.5-flash"], cwd=os.path.join(home, "project"),
                              env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        return json.dumps(server.results), done.stdout[-600:] + done.stderr[-1500:]
    finally:
        server.shutdown()
        shutil.rmtree(home, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cx", default=os.path.join(HERE, "../../target/debug/cx"), help="the program to check")
    cx = os.path.realpath(parser.parse_args().cx)
    client = os.environ.get("CX_TEST_GEMINI") or shutil.which("gemini")
    if not client:
        print("skipped: no Gemini CLI here (install it, or name one by CX_TEST_GEMINI)")
        return 77
    failures = 0
    # The node does not exist, so that cx runs the command here, and says so.
    for name, command, policy, wanted, unwanted in (
            ("a heavy command runs through cx", "cd . && pytest -x 2>&1 | tail -3", "", ["[cx] local: ", "plain -x"], "Error"),
            ("a light command stays", "echo hi", "", ["hi"], "modified by a hook"),
            ("a policy that denies it is asked about the plain command", "pytest -x", POLICY, ["denied"], "plain"),
            ("a typed cx does not pass by a policy", "cx pytest -x", POLICY, ["without cx"], "plain")):
        results, said = run(client, cx, command, policy)
        good = all(w in results for w in wanted) and unwanted not in results
        failures += not good
        print("ok    " if good else "FAILED", name, flush=True)
        if not good:
            print(results[:800], said)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
