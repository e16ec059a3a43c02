"""A real ZooKeeper and a pointsman to compare with it, each in a directory of its own, both started anew."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

JAR = os.environ.get("ZOOKEEPER_JAR", "/usr/share/java/zookeeper.jar")
# super:test
SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="

ZOOKEEPER = """
tickTime=2000
dataDir={home}/data
clientPort={port}
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
"""

LOG4J = """
log4j.rootLogger=ERROR, A
log4j.appender.A=org.apache.log4j.ConsoleAppender
log4j.appender.A.layout=org.apache.log4j.SimpleLayout
"""

POINTSMAN = """
[node]
data_dir = "{home}/data"
workers = 1
[api]
bind = "127.0.0.1:0"
[log.access]
format = "off"
[front.zookeeper]
bind = "127.0.0.1:{port}"
super_digest = "{super}"
words = ["ruok", "srvr", "stat", "mntr", "cons", "conf", "envi", "isro", "dump", "dirs", "wchs", "wchc", "wchp"]
{more}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, name):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix=f"conformance-{name}-"))
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self):
        self.log = open(self.home / "log", "ab")
        self.process = subprocess.Popen(
            self.command(), stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while b"Mode:" not in (self.word(b"srvr") or b""):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((self.home / "log").read_text()[-2000:])
            time.sleep(0.05)

    def word(self, word):
        try:
            with socket.create_connection(self.address, timeout=2) as s:
                s.sendall(word)
                answer = b""
                while chunk := s.recv(65536):
                    answer += chunk
                return answer
        except OSError:
            return None

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def cpu(self):
        """Seconds of CPU time that it has used."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class ZooKeeper(Server):
    def __init__(self, java=()):
        super().__init__("zookeeper")
        self.java = list(java)

    def command(self):
        (self.home / "data").mkdir(exist_ok=True)
        (self.home / "zoo.cfg").write_text(
            ZOOKEEPER.format(home=self.home, port=self.port)
        )
        (self.home / "log4j.properties").write_text(LOG4J)
        return [
            "java",
            "-Dzookeeper.extendedTypesEnabled=true",
            "-Dzookeeper.emulate353TTLNodes=false",
            f"-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER}",
            *self.java,
            "-cp",
            f"{self.home}:{JAR}:/usr/share/java/*",
            "org.apache.zookeeper.server.ZooKeeperServerMain",
            str(self.home / "zoo.cfg"),
        ]


class Pointsman(Server):
    def __init__(self, more=""):
        super().__init__("pointsman")
        self.more = more

    def command(self):
        (self.home / "pointsman.toml").write_text(
            POINTSMAN.format(home=self.home, port=self.port, super=SUPER, more=self.more)
        )
        return [os.environ["POINTSMAN"], "serve", "-c", str(self.home / "pointsman.toml")]
