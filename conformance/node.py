"""What the suites share: a node, certificates, and programs that Go makes."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


def made_by_go(home, packages):
    """Programs by their names, built where they are not; None without Go."""
    names = [package.partition("@")[0].rsplit("/", 1)[1] for package in packages]
    programs = {name: home / "bin" / name for name in names}
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not all(program.is_file() for program in programs.values()):
        if not go:
            return None
        environment = {**os.environ, "GOBIN": str(home / "bin"), "GOPATH": str(home / "go"), "GOFLAGS": "-modcacherw"}
        subprocess.run([go, "install", *packages], env=environment, check=True)
    return programs


def certificate(place):
    """A certificate for `localhost` and who signed it: `cert.pem`, `key.pem` and `ca.pem`."""
    run = lambda *words: subprocess.run(["openssl", *words], check=True, capture_output=True)
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-keyout", f"{place}/ca.key", "-out", f"{place}/ca.pem"]
    run(*new, "-x509", "-subj", "/CN=an authority", *authority)
    run(*new, "-subj", "/CN=localhost", "-keyout", f"{place}/key.pem", "-out", f"{place}/request.pem")
    (place / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    signed = ["-CA", f"{place}/ca.pem", "-CAkey", f"{place}/ca.key", "-CAcreateserial", "-out", f"{place}/cert.pem"]
    run("x509", "-req", "-in", f"{place}/request.pem", "-days", "30", "-extfile", f"{place}/names", *signed)


@contextlib.contextmanager
def place(name):
    """A directory for the while."""
    with tempfile.TemporaryDirectory(prefix=f"conformance-{name}-") as made:
        yield pathlib.Path(made)


@contextlib.contextmanager
def node(where, config):
    """A running node; the ports of its listeners by their names."""
    path = where / "pointsman.toml"
    path.write_text(f'[node]\ndata_dir = "{where}/data"\n[api]\nbind = "127.0.0.1:0"\n[log.access]\nformat = "off"\n{config}')
    command = [os.environ["POINTSMAN"], "serve", "-c", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield _listeners(process)
    finally:
        process.terminate()
        process.wait()


LISTENERS = """
[listener.web]
bind = "127.0.0.1:0"
service = "shop"
[listener.secure]
bind = "127.0.0.1:0"
protocol = "https"
service = "shop"
[listener.secure.tls]
certificates = [{{ cert = "{where}/cert.pem", key = "{where}/key.pem" }}]
[[service.shop.instance]]
address = "127.0.0.1:{origin}"
"""


@contextlib.contextmanager
def in_front_of(origin):
    """A running node with one instance, at that port, and the listeners `web`, without TLS, and `secure`; their ports, and
    the directory that its certificates are in."""
    with place("listeners") as where:
        certificate(where)
        with node(where, LISTENERS.format(where=where, origin=origin)) as ports:
            yield ports, where


def tools():
    """Where programs are put that are not there, and kept for the next time."""
    home = pathlib.Path(os.environ["CONFORMANCE_TARGET"])
    home.mkdir(parents=True, exist_ok=True)
    return home


def _listeners(process):
    ports, said = {}, []
    for line in process.stdout:
        said.append(line)
        found = re.search(r"listener\s+(\w+) on [\d.]+:(\d+)", line)
        if found:
            ports[found[1]] = int(found[2])
        if "serving" in line:
            return ports
    sys.exit("the node does not start:\n" + "".join(said))
