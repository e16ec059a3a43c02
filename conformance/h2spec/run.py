"""h2spec, strict, against a listener without TLS and one with it. Nothing is done where there is no Go to get it with."""

import os
import pathlib
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading

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
[node]
data_dir = "{home}/data"
workers = 1
[api]
bind = "127.0.0.1:0"
[log.access]
format = "off"
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
    program = home / "bin" / "h2spec"
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not program.is_file() and go:
        environment = {**os.environ, "GOBIN": str(program.parent), "GOPATH": str(home / "go"), "GOFLAGS": "-modcacherw"}
        subprocess.run([go, "install", H2SPEC], env=environment, check=True)
    return program if program.is_file() else None


def listeners(process):
    """The ports that the node says it listens on."""
    ports = {}
    for line in process.stdout:
        found = re.search(r"listener\s+(\w+) on [\d.]+:(\d+)", line)
        if found:
            ports[found[1]] = int(found[2])
        if "serving" in line:
            return ports
    sys.exit("the node does not start")


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
    with tempfile.TemporaryDirectory(prefix="conformance-h2spec-") as place:
        subject = ["-subj", "/CN=localhost", "-keyout", f"{place}/key.pem", "-out", f"{place}/cert.pem"]
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        subprocess.run([*new, *subject], check=True, capture_output=True)
        config = pathlib.Path(place) / "pointsman.toml"
        config.write_text(CONFIG.format(home=place, origin=origin.server_address[1]))
        command = [os.environ["POINTSMAN"], "serve", "-c", str(config)]
        node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            faults = []
            for name, port in sorted(listeners(node).items()):
                for case, said in failures(program, name, port).items():
                    if case in EXCUSED[name]:
                        print(f"{name}: excused: {case}")
                    else:
                        faults.append(f"{name}: {case}\n{said}")
        finally:
            node.terminate()
            node.wait()
    sys.exit("\n".join(faults) or 0)


main()
