"""ZooKeeper's own shell, with every command it has, against a real ZooKeeper and against pointsman: it prints the same."""

import difflib
import re
import subprocess

from servers import JAR, Pointsman, ZooKeeper

COMMANDS = """
create /test "hello world"
get /test
set /test "hello again"
get -s /test
stat /test
ls /
create -e /test/e live
create -s /test/s- one
create -s -e /test/s- two
create -c /test/container
create -t 600000 /test/ttl gone
create /test/a/b deep
ls /test
ls -s /test
ls -R /test
getAllChildrenNumber /test
getEphemerals
getEphemerals /test
get -w /test
set /test changed
ls -w /test
create /test/new n
stat -w /test/new
delete /test/new
set -v 7 /test wrong
set -s -v 2 /test right
delete -v 9 /test
delete /test
addWatch -m PERSISTENT /test
set /test seen
removewatches /test
addWatch -m PERSISTENT_RECURSIVE /test
create /test/below b
removewatches /test
getAcl /test
setAcl /test world:anyone:cdrwa,ip:127.0.0.1:r
getAcl -s /test
addauth digest bob:pw
create /secret s auth::cdrwa
getAcl /secret
whoami
setquota -n 5 /test
listquota /test
setquota -b 1000 /test
listquota /test
delquota /test
listquota /test
delquota -b /nothing
sync /test
config
reconfig -remove 1
version
history
printwatches off
create /test 2
deleteall /test
ls /
get /nothing
close
"""


def normal(text, port):
    text = text.replace(str(port), "PORT")
    text = re.sub(r"(?m)^(cZxid|mZxid|pZxid|ephemeralOwner) = 0x[0-9a-f]{2,}$", r"\1 = …", text)
    text = re.sub(r"(?m)^(cZxid|mZxid|pZxid) = 0x[0-9a-f]+$", r"\1 = …", text)
    text = re.sub(r"(?m)^(ctime|mtime) = .*$", r"\1 = …", text)
    # Children come in the order of a hash; and 3.9 says more of an event than 3.8.
    text = re.sub(r"(?m)^\[(.*)\]$", lambda m: str(sorted(m[1].split(", "))), text)
    text = re.sub(r" zxid: -?\d+", "", text)
    text = re.sub(r"0x[0-9a-f]{10,}", "0x…", text)
    lines = [line.rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Welcome", "JLine", "WATCHER", "20"))]
    # Another thread prints events, at any line; and identities come in the order of a hash, too.
    events = [line for line in lines if line.startswith("WatchedEvent")]
    others = [line for line in lines if not line.startswith("WatchedEvent")]
    for at, line in enumerate(others):
        if line.startswith("ip: ") and at > 0 and others[at - 1].startswith("digest: "):
            others[at - 1 : at + 1] = [line, others[at - 1]]
    return others + events


def output(server):
    classpath = f"{server.home}:{JAR}:/usr/share/java/*"
    (server.home / "log4j.properties").write_text("log4j.rootLogger=OFF\n")
    done = subprocess.run(
        ["java", "-cp", classpath, "org.apache.zookeeper.ZooKeeperMain", "-waitforconnection", "-server", f"127.0.0.1:{server.port}"],
        input=COMMANDS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return normal(done.stdout, server.port)


def run():
    with ZooKeeper(java=["-Dzookeeper.reconfigEnabled=false"]) as zookeeper, Pointsman() as pointsman:
        theirs, ours = output(zookeeper), output(pointsman)
        different = list(difflib.unified_diff(theirs, ours, "ZooKeeper", "pointsman", lineterm="", n=2))
        print("\n".join(different))
        print(f"{len(COMMANDS.split(chr(10))) - 2} commands of the shell, {len(theirs)} lines, {'different' if different else 'the same'}")
        assert len(theirs) > 100
        return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(run())
