"""Serves a stdio server over Streamable HTTP, for suites that know nothing else: one process a session, JSON answers or a stream
of events as the client asks for.  bridge.py PORT COMMAND ...   Prints `ready` once it listens."""

import json
import queue
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, COMMAND = int(sys.argv[1]), sys.argv[2:]
sessions = {}


class Session:
    def __init__(self):
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lock, self.waiting, self.tokens = threading.Lock(), {}, {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            key = json.dumps(message.get("id"))
            if "method" in message:
                # Progress goes where the request's answer will go.
                token = json.dumps(message.get("params", {}).get("progressToken"))
                key = self.tokens.get(token, key)
            if key in self.waiting:
                self.waiting[key].put(message)

    def send(self, message):
        with self.lock:
            self.process.stdin.write((json.dumps(message) + "\n").encode())
            self.process.stdin.flush()

    def ask(self, message):
        key = json.dumps(message["id"])
        answers = self.waiting[key] = queue.Queue()
        token = message.get("params", {}).get("_meta", {}).get("progressToken")
        if token is not None:
            self.tokens[json.dumps(token)] = key
        self.send(message)
        while True:
            answer = answers.get(timeout=60)
            yield answer
            if "method" not in answer:
                del self.waiting[key]
                return


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def local(self):
        """A page of some other site must not reach a server on this machine."""
        names = ("127.0.0.1", "localhost", "[::1]")
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        origin = self.headers.get("Origin")
        return host in names and (origin is None or any(origin.startswith(f"http://{n}") for n in names))

    def do_GET(self):
        self.answer(405)

    def do_DELETE(self):
        session = sessions.pop(self.headers.get("Mcp-Session-Id"), None)
        if session:
            session.process.stdin.close()
        self.answer(200 if session else 404)

    def do_POST(self):
        # Read in any case: what is left of it would be taken for the next request of the connection.
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.local():
            return self.answer(403)
        message = json.loads(body)
        name = self.headers.get("Mcp-Session-Id")
        if name is None:
            name = uuid.uuid4().hex
            sessions[name] = Session()
        session = sessions.get(name)
        if session is None:
            return self.answer(404)
        own = [("Mcp-Session-Id", name)]
        if "id" not in message or "method" not in message:
            session.send(message)
            return self.answer(202, headers=own)
        answers = list(session.ask(message))
        if len(answers) == 1:
            body = json.dumps(answers[0]).encode()
            return self.answer(200, body, [("Content-Type", "application/json"), *own])
        events = "".join(f"event: message\ndata: {json.dumps(a)}\n\n" for a in answers)
        self.answer(200, events.encode(), [("Content-Type", "text/event-stream"), *own])


with ThreadingHTTPServer(("127.0.0.1", PORT), Handler) as http:
    print("ready", flush=True)
    http.serve_forever()
