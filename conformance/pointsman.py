"""A pointsman to test, with a listener for each of the two ways in, in front of one instance."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

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


class Pointsman:
    """`ports` has those of the listeners, `web` without TLS and `secure` with it; `certificate` is the latter's, for localhost."""

    def __init__(self, origin, more=""):
        self.place = tempfile.TemporaryDirectory(prefix="conformance-")
        self.home = pathlib.Path(self.place.name)
        self.certificate = self.home / "cert.pem"
        self.config = self.home / "pointsman.toml"
        self.config.write_text(CONFIG.format(home=self.home, origin=origin) + more)

    def __enter__(self):
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", self.home / "key.pem", "-out", self.certificate]
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
        subprocess.run([*new, *names, *files], check=True, capture_output=True)
        command = [os.environ["POINTSMAN"], "serve", "-c", str(self.config)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.ports = self.listeners()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.place.cleanup()

    def listeners(self):
        """The ports that the node says it listens on."""
        ports, said = {}, ""
        for line in self.process.stdout:
            said += line
            found = re.search(r"listener\s+(\w+) on [\d.]+:(\d+)", line)
            if found:
                ports[found[1]] = int(found[2])
            if "serving" in line:
                return ports
        sys.exit(f"the node does not start: {said}")


def home():
    """Where tools are put that are not there, and kept for the next time."""
    home = pathlib.Path(os.environ["CONFORMANCE_TARGET"])
    home.mkdir(parents=True, exist_ok=True)
    return home
