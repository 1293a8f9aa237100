"""A model for Claude Code that is a script: a tiny Messages API on loopback.

It asks for one Bash call after the other and, when all are answered, ends its turn; a subagent that it starts does the same with
calls of its own. Nothing leaves the machine.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model:
    """Serves `calls`, a list of inputs of the Bash tool, or of the one that is named under `tool`; keeps what the client answered.

    A call with `calls` in it starts a subagent that makes these. They are numbered after those of the model itself.
    """

    def __init__(self, calls):
        self.calls = list(calls)
        self.turns = {None: range(len(calls))}  # prompt of a subagent -> numbers of its calls
        for call in calls:
            if "calls" in call:
                self.turns[call["prompt"]] = range(len(self.calls), len(self.calls) + len(call["calls"]))
                self.calls += call["calls"]
        self.results = {}  # number of the call -> the client's tool_result block
        self.seen = []  # the text of every request
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.reply({"data": [], "has_more": False})

            do_HEAD = do_GET

            def do_POST(self):
                text = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.partition("?")[0]
                if path.endswith("/count_tokens"):
                    return self.reply({"input_tokens": 1})
                if not path.endswith("/v1/messages"):
                    return self.reply({"error": {"type": "not_found_error", "message": path}, "type": "error"}, 404)
                request = json.loads(text)
                answer = model.answer(request, text.decode())
                if request.get("stream"):
                    self.stream(answer)
                else:
                    self.reply(answer)

            def reply(self, value, status=200):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def stream(self, answer):
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for event in events(answer):
                    line = "event: %s\ndata: %s\n\n" % (event["type"], json.dumps(event))
                    self.wfile.write(line.encode())
                self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, text):
        """What the model says next. Its place in the script is read off the conversation."""
        self.seen.append(text)
        done = set()
        for message in request.get("messages", []):
            content = message.get("content")
            for block in content if isinstance(content, list) else []:
                if block.get("type") == "tool_result" and block.get("tool_use_id", "").startswith("toolu_call_"):
                    number = int(block["tool_use_id"].rpartition("_")[2])
                    self.results[number] = block
                    done.add(number)
        first = json.dumps(request.get("messages", [])[:1])
        who = next((prompt for prompt in self.turns if prompt and prompt in first), None)
        names = [tool.get("name") for tool in request.get("tools", [])]
        left = [number for number in self.turns[who] if number not in done]
        if "Bash" in names and left:
            call = dict(self.calls[left[0]])
            name = call.pop("tool", "Bash")
            if call.pop("calls", None):
                name = next(n for n in names if n in ("Agent", "Task"))
            block = {"type": "tool_use", "id": "toolu_call_%d" % left[0], "name": name, "input": call}
            reason = "tool_use"
        else:
            block, reason = {"type": "text", "text": "done"}, "end_turn"
        return {
            "id": "msg_%d" % len(self.seen), "type": "message", "role": "assistant", "model": request.get("model"),
            "content": [block], "stop_reason": reason, "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }


def events(answer):
    """The events by which a message is streamed."""
    block = answer["content"][0]
    if block["type"] == "tool_use":
        empty = dict(block, input={})
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    else:
        empty = dict(block, text="")
        delta = {"type": "text_delta", "text": block["text"]}
    yield {"type": "message_start", "message": dict(answer, content=[], stop_reason=None)}
    yield {"type": "content_block_start", "index": 0, "content_block": empty}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta", "delta": {"stop_reason": answer["stop_reason"], "stop_sequence": None},
        "usage": {"output_tokens": 1},
    }
    yield {"type": "message_stop"}
