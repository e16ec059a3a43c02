"""Clients that people use, through both listeners: connections kept, large bodies both ways, 100-continue, answers before
the request has ended, requests that are broken off. Arguments are names of clients; without any, all. A client whose tools
are not there is skipped, and said."""

import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import node
from origin import Origin

HERE = pathlib.Path(__file__).parent
HTTPX = "httpx[http2]==0.28.1"
UNDICI = "undici@6.21.1"


def curl(_):
    return shutil.which("curl") and ["sh", HERE / "curl.sh"]


def httpx(home):
    python = home / "venv/bin/python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", HTTPX], check=True)
    return [python, HERE / "httpx_client.py"]


def undici(home):
    if not shutil.which("npm"):
        return None
    if not (home / "node_modules/undici").is_dir():
        subprocess.run(["npm", "install", "--silent", "--prefix", home, UNDICI], check=True)
    # Modules are looked for beside the program.
    shutil.copy(HERE / "undici.mjs", home)
    return ["node", home / "undici.mjs"]


def go(home):
    tool = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not tool:
        return None
    program = home / "go-client"
    subprocess.run([tool, "build", "-o", program, HERE / "client.go"], check=True)
    return [program]


def java(_):
    return shutil.which("javac") and ["java", HERE / "Client.java"]


CLIENTS = {"curl": curl, "httpx": httpx, "undici": undici, "Go": go, "Java": java}


def main():
    home = node.tools()
    failed = []
    with node.in_front_of(Origin().port) as (ports, place):
        web, secure = f"http://localhost:{ports['web']}", f"https://localhost:{ports['secure']}"
        for name in sys.argv[1:] or CLIENTS:
            program = CLIENTS[name](home)
            if not program:
                print(f"{name}: skipped, its tools are not there")
                continue
            environment = {**os.environ, "CA": str(place / "ca.pem")}
            run = subprocess.run([*program, web, secure], env=environment, timeout=180, check=False)
            print(f"{name}: {'failed' if run.returncode else 'passed'}", flush=True)
            if run.returncode:
                failed.append(name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


main()
