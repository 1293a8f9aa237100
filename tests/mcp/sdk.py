"""A session with `cx mcp` by the official Python SDK: its client checks every message against the protocol's types, and results
against the declared schemas. Run with 1.x and with 2.x of the package `mcp`:  sdk.py CX DIRECTORY"""

import asyncio
import importlib.metadata
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

CX, HOME = sys.argv[1:3]
MAJOR = int(importlib.metadata.version("mcp").split(".")[0])
ENV = {"HOME": HOME, "PATH": os.environ["PATH"], "SHELL": "/bin/bash"}
failed = []


def check(what, good, seen=""):
    print(("ok      " if good else "FAILED  ") + what + ("" if good else f": {seen}"))
    if not good:
        failed.append(what)


def field(thing, snake, camel):
    return getattr(thing, snake) if hasattr(thing, snake) else getattr(thing, camel)


def is_error(result):
    return bool(field(result, "is_error", "isError"))


def server(*args):
    return StdioServerParameters(command=CX, args=["mcp", *args], env=ENV, cwd=HOME)


async def common(call, list_tools, progress, crowd=False):
    tools = (await list_tools()).tools
    check("four tools", [t.name for t in tools] == ["cluster_bash", "cluster_status", "offload_to", "parallel_execute"], tools)
    hints = [field(t.annotations, "read_only_hint", "readOnlyHint") for t in tools]
    check("only the status is read-only", hints == [False, True, False, False], hints)
    result = await call("cluster_bash", {"command": "echo hello; exit 3"})
    text = result.content[0].text
    check("a failing command is a result", text.startswith("hello\n[local exit 3") and not is_error(result), text)
    meta = result.meta["cx/result"]
    check("fields in _meta", meta["exit_code"] == 3 and meta["node_id"] == "local" and not meta["truncated"], meta)
    result = await call("cluster_bash", {"command": "x", "timeout": 0})
    check("bad arguments are an error", is_error(result) and "timeout" in result.content[0].text, result)
    result = await call("offload_to", {"node_id": "nowhere", "command": "true"})
    check("an unknown node is an error", is_error(result) and "nowhere" in result.content[0].text, result)
    result = await call("parallel_execute", {"commands": ["echo a", "echo b", "exit 1"]})
    check("results in order", result.content[0].text.index("\na\n") < result.content[0].text.index("\nb\n"), result)
    result = await call("cluster_status", {})
    content = field(result, "structured_content", "structuredContent")
    check("status has fields", content["nodes"][0]["name"] == "local", content)
    seen = []

    async def on_progress(done, total, message):
        seen.append(message)

    await progress("cluster_bash", {"command": "echo begun; sleep 1.2"}, on_progress)
    check("progress", bool(seen) and "begun" in seen[0], seen)
    if not crowd:
        return
    many = await asyncio.gather(*(call("cluster_bash", {"command": f"exit {n % 5}"}) for n in range(240)))
    check("240 at once", [m.meta["cx/result"]["exit_code"] for m in many] == [n % 5 for n in range(240)])


async def by_session(*args):
    async with stdio_client(server(*args)) as (read, write), ClientSession(read, write) as session:
        hello = await session.initialize()
        check("initialize", field(hello, "server_info", "serverInfo").name == "cx", hello)
        await common(
            session.call_tool,
            session.list_tools,
            lambda name, arguments, f: session.call_tool(name, arguments, progress_callback=f),
            crowd=MAJOR < 2 and not args,
        )


async def by_client():
    """The 2.x client asks `server/discover` and speaks 2026-07-28 from then on."""
    from mcp import Client

    for mode in ["auto", "legacy"]:
        async with Client(server(), mode=mode) as client:
            new = str(client.protocol_version) == "2026-07-28"
            check(f"{mode} negotiates", new == (mode == "auto"), client.protocol_version)
            await common(
                client.call_tool,
                client.list_tools,
                lambda name, arguments, f: client.call_tool(name, arguments, progress_callback=f),
                crowd=new,
            )


async def with_roots():
    """A client with roots is asked for them: by a request, and from 2026-07-28 on by the answer to its call."""
    from mcp import Client
    from mcp.types import ListRootsResult, Root

    root = os.path.join(HOME, "root")
    os.makedirs(root, exist_ok=True)
    asked = []

    async def roots(context):
        asked.append(context)
        return ListRootsResult(roots=[Root(uri="file://" + root)])

    for mode in ["auto", "legacy"]:
        asked.clear()
        async with Client(server(), mode=mode, list_roots_callback=roots) as client:
            result = await client.call_tool("cluster_bash", {"command": "pwd -P"})
        where = result.content[0].text.split("\n")[0]
        check(f"{mode} says its roots", where == os.path.realpath(root) and len(asked) == 1, (result, len(asked)))


async def main():
    if MAJOR >= 2:
        await by_client()
        await with_roots()
    await by_session()
    await by_session("--structured")


asyncio.run(asyncio.wait_for(main(), 120))
sys.exit(f"{len(failed)} failed" if failed else 0)
