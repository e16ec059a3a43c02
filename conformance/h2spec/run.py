"""h2spec, strict, against a listener without TLS and one with it. Nothing is done where there is no Go to get it with."""

import os
import pathlib
import re
import shutil
import socketserver
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import node as ours  # noqa: E402

H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

# Cases that a listener cannot pass, and why.
EXCUSED = {
    "web": {
        # The listener speaks HTTP/1.1 as well: what is no preface of HTTP/2 is answered with 400, in HTTP/1.1.
        "Sends invalid connection preface",
    },
    "secure": set(),
}

CONFIG = """
[listener.web]
bind = "127.0.0.1:0"
service = "shop"
[listener.secure]
bind = "127.0.0.1:0"
protocol = "https"
service = "shop"
[listener.secure.tls]
certificates = [{{ cert = "{home}/cert.pem", key = "{home}/key.pem" }}]
[[service.shop.instance]]
address = "127.0.0.1:{origin}"
"""


class Origin(socketserver.StreamRequestHandler):
    """Reads requests with their bodies, and answers each of them with a few bytes."""

    def handle(self):
        while line := self.rfile.readline():
            length, chunked = 0, False
            while (line := self.rfile.readline().strip().lower()):
                name, _, value = line.partition(b":")
                if name == b"content-length":
                    length = int(value)
                chunked |= name == b"transfer-encoding"
            while chunked:
                size = int(self.rfile.readline() or b"0", 16)
                self.rfile.read(size)
                if size == 0:
                    while self.rfile.readline().strip():
                        pass
                    break
                self.rfile.readline()
            self.rfile.read(length)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


class Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Connections break when requests are broken off: that is what is tested."""


def tool(home):
    """The program, built where it is not; None without Go."""
    given = os.environ.get("H2SPEC") or shutil.which("h2spec")
    if given:
        return given
    programs = ours.made_by_go(home, [H2SPEC])
    return programs and programs["h2spec"]


def failures(program, name, port):
    """Names of the cases that fail, with what h2spec says of them."""
    more = ["-t", "-k"] if name == "secure" else []
    command = [program, "-S", "-h", "127.0.0.1", "-p", str(port), "-o", "5", *more]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"{name}: {run.stdout.strip().splitlines()[-1]}")
    assert " tests, " in run.stdout, run.stdout + run.stderr
    _, _, listed = run.stdout.partition("Failures:")
    return {found[1].strip(): listed for found in re.finditer(r"× \d+: (.*)", listed)}


def main():
    home = pathlib.Path(os.environ["CONFORMANCE_TARGET"])
    home.mkdir(parents=True, exist_ok=True)
    program = tool(home)
    if program is None:
        print("skipped: h2spec is not there, and there is no Go to get it with (apt install golang-go)")
        return
    origin = Threads(("127.0.0.1", 0), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    faults = []
    with ours.place("h2spec") as place:
        ours.certificate(place)
        config = CONFIG.format(home=place, origin=origin.server_address[1])
        with ours.node(place, config) as listeners:
            for name, port in sorted(listeners.items()):
                for case, said in failures(program, name, port).items():
                    if case in EXCUSED[name]:
                        print(f"{name}: excused: {case}")
                    else:
                        faults.append(f"{name}: {case}\n{said}")
    sys.exit("\n".join(faults) or 0)


main()
