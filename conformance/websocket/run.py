"""Autobahn's fuzzing client against an echo server, directly and through both listeners: no case may end otherwise through
pointsman than without it. Nothing is done where there is no `wstest` (PyPI's autobahntestsuite, which needs Python 2.7)."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import node

WEBSOCKETS = "websockets==15.0.1"

ECHO = """
import asyncio, sys, websockets

async def echo(socket):
    async for message in socket:
        await socket.send(message)

async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=1 << 25, ping_interval=None):
        await asyncio.Future()

asyncio.run(main())
"""


def echo_server(tools, port):
    python = tools / "venv/bin/python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", tools / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", WEBSOCKETS], check=True)
    process = subprocess.Popen([python, "-c", ECHO, str(port)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while socket.socket().connect_ex(("127.0.0.1", port)):
        if time.monotonic() > deadline:
            sys.exit("the echo server does not start")
        time.sleep(0.05)
    return process


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def outcomes(wstest, agents, reports):
    """What became of each case, by agent: how it went, how it was closed, and with what code."""
    servers = [{"agent": agent, "url": url} for agent, url in agents.items()]
    spec = {"outdir": str(reports), "servers": servers, "cases": ["*"], "exclude-cases": [], "exclude-agent-cases": {}}
    # Without compression unless asked: its 216 cases are about the echo server, and take half an hour.
    if "--compression" not in sys.argv:
        spec["exclude-cases"] = ["12.*", "13.*"]
    file = reports.with_suffix(".json")
    file.write_text(json.dumps(spec))
    run = subprocess.run([wstest, "-m", "fuzzingclient", "-s", file], capture_output=True, text=True, check=False)
    index = reports / "index.json"
    if run.returncode or not index.is_file():
        sys.exit(run.stdout + run.stderr)
    ended = json.loads(index.read_text())
    told = ("behavior", "behaviorClose", "remoteCloseCode")
    # When a server hears of a fault is a matter of how the bytes come in, and both are allowed.
    same = {"NON-STRICT": "OK"}
    return {agent: {case: [same.get(c[t], c[t]) for t in told] for case, c in ended[agent].items()} for agent in agents}


def main():
    wstest = os.environ.get("WSTEST") or shutil.which("wstest")
    if not wstest:
        print("skipped: there is no wstest (PyPI's autobahntestsuite==0.8.2, for Python 2.7); WSTEST may name it")
        return
    tools, port = node.tools(), free_port()
    reports = tools / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    echo = echo_server(tools, port)
    try:
        with node.in_front_of(port) as (ports, _):
            through = {"web": f"ws://localhost:{ports['web']}", "secure": f"wss://localhost:{ports['secure']}"}
            ended = outcomes(wstest, {"direct": f"ws://127.0.0.1:{port}", **through}, reports)
    finally:
        echo.terminate()
        echo.wait()
    faults = []
    for name in through:
        other = {case: end for case, end in ended[name].items() if end != ended["direct"][case]}
        print(f"{name}: {len(ended[name])} cases, {len(other)} of them otherwise than without pointsman")
        faults += [f"{name} {case}: {end}, without pointsman {ended['direct'][case]}" for case, end in other.items()]
    sys.exit("\n".join(faults) or 0)


main()
