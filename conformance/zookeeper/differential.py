"""The same random script to a real ZooKeeper and to pointsman; every answer and every event is compared.

differential.py [OPERATIONS [SEED]]
"""

import os
import random
import struct
import sys
import time
import zlib

import wire
from servers import Pointsman, ZooKeeper
from wire import Client, Reader

SESSIONS = 4
TRACE = "TRACE" in os.environ
# The last one has lasting watches only: ZooKeeper 3.8 forgets that a watch is lasting when a one-time one is added to
# the same path, which 3.9 does not, nor do we.
LASTING = SESSIONS - 1
NAMES = ["a", "b", "c", "d"]
ODD = ["", "/", "a", "//", "/a/", "/a//b", "/a/./b", "/a/../b", "/a\x00", "/a\x01b", "/\u2028é", "/zookeeper", "/zookeeper/config", "/zookeeper/quota", "a/b"]
ACLS = [
    [(31, "world", "anyone")],
    [(1, "world", "anyone")],
    [(27, "world", "anyone")],
    [(31, "auth", "")],
    [(31, "digest", "bob:cyiYzlQTJJsKUbCtR4OYZ6rEfVI="), (1, "world", "anyone")],
    [(31, "ip", "127.0.0.1")],
    [(31, "ip", "127.0.0.0/8")],
    [(31, "ip", "10.0.0.0/8"), (16, "world", "anyone")],
    [(31, "ip", "not an address")],
    [(31, "world", "nobody")],
    [(31, "nosuch", "x")],
    [(31, "digest", "nocolon")],
    [],
]


class Side:
    """One of the two servers, and its sessions."""

    def __init__(self, server):
        self.server = server
        self.clients = [Client(server.address) for _ in range(SESSIONS)]
        self.last = 0

    def owner(self, session):
        for index, client in enumerate(self.clients):
            if client.session == session:
                return f"session {index}"
        return "nobody" if session == 0 else "a former session"


class Zxids:
    """Transactions are numbered differently; their order is the same."""

    def __init__(self):
        self.pairs = {}
        self.back = {}

    def same(self, theirs, ours):
        if self.pairs.setdefault(theirs, ours) != ours:
            return False
        return self.back.setdefault(ours, theirs) == theirs

    def check_order(self):
        ours = [ours for _, ours in sorted(self.pairs.items())]
        assert ours == sorted(ours), "transactions are in another order"


class Script:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def path(self, depth=None):
        r = self.random
        if r.random() < 0.02:
            return r.choice(ODD)
        depth = depth or r.choice([1, 1, 2, 2, 2, 3])
        return "/t" + "".join("/" + r.choice(NAMES) for _ in range(depth))

    def version(self):
        return self.random.choice([-1, -1, -1, 0, 0, 1, 2])

    def data(self):
        r = self.random
        return r.choice([b"", None, b"x", bytes(r.randrange(256) for _ in range(r.randrange(40)))])

    def acl(self):
        r = self.random
        return ACLS[0] if r.random() < 0.9 else r.choice(ACLS)

    def creation(self):
        r = self.random
        flags = r.choice([0, 0, 0, 0, 1, 1, 2, 3, 4, 7, -1] if r.random() < 0.2 else [0, 0, 0, 1, 2, 3])
        op = r.choice([wire.CREATE, wire.CREATE2])
        return op, wire.create(self.path(), self.data(), self.acl(), flags)

    def change(self):
        r = self.random
        kind = r.randrange(10)
        if kind < 5:
            return self.creation()
        if kind < 7:
            return wire.DELETE, wire.versioned(self.path(), self.version())
        if kind < 9:
            return wire.SET, wire.set_data(self.path(), self.data(), self.version())
        return wire.CHECK, wire.versioned(self.path(), self.version())

    def watching(self, session):
        r = self.random
        if session == LASTING:
            path = self.path()
            # For the same reason, a path is watched either recursively or not.
            mode = struct.pack(">i", zlib.crc32(path.encode()) % 2)
            return r.choice([
                (wire.ADD_WATCH, wire.text(path) + mode),
                (wire.REMOVE_WATCHES, wire.versioned(path, 3)),
            ])
        # Not whether there is a watch: ZooKeeper 3.8 says yes if anybody has one.
        return wire.REMOVE_WATCHES, wire.versioned(self.path(), r.choice([1, 2, 3]))

    def step(self, session):
        r = self.random
        kind = r.random()
        watch = session != LASTING and r.random() < 0.3
        if kind < 0.40:
            op = self.change()
            # By itself it is an operation of transactions only.
            return op if op[0] != wire.CHECK else (wire.GET, wire.watched(self.path(), watch))
        if kind < 0.68:
            op = r.choice([wire.EXISTS, wire.GET, wire.CHILDREN, wire.CHILDREN2])
            return op, wire.watched(self.path(), watch)
        if kind < 0.78:
            return wire.MULTI, wire.multi([self.change() for _ in range(r.randrange(5))])
        if kind < 0.80:
            reads = [(r.choice([wire.GET, wire.CHILDREN]), wire.watched(self.path())) for _ in range(r.randrange(4))]
            return wire.MULTI_READ, wire.multi(reads)
        if kind < 0.82:
            return wire.SET_ACL, wire.text(self.path()) + wire.acl(self.acl()) + struct.pack(">i", self.version())
        if kind < 0.84:
            return wire.GET_ACL, wire.text(self.path())
        if kind < 0.90:
            return self.watching(session)
        if kind < 0.91:
            flags, ttl = r.choice([(5, 600000), (6, 600000), (5, 0), (5, -1), (6, 1 << 41)])
            return wire.CREATE_TTL, wire.create_ttl(self.path(), b"t", self.acl(), flags, ttl)
        if kind < 0.92:
            # Where nothing is created below: one that has served and is empty goes when the server next looks.
            return wire.CONTAINER, wire.create(self.path(3), b"c", self.acl(), 4)
        if kind < 0.93:
            # Of the root ZooKeeper counts one name of its own too many.
            return wire.ALL_CHILDREN, wire.text(r.choice(["/t", "/t/a", "/t/b/c", "/none"]))
        if kind < 0.94:
            return wire.EPHEMERALS, wire.text(r.choice(["/", "/t", "/t/a", "/none"]))
        if kind < 0.95:
            return wire.SYNC, wire.text(self.path())
        if kind < 0.955:
            return wire.WHO, b""
        if kind < 0.96:
            return wire.AUTH, struct.pack(">i", 0) + wire.text("digest") + wire.data(r.choice([b"bob:pw", b"eve:pw"]))
        if kind < 0.965:
            return "reopen", None
        if kind < 0.975:
            return "reconnect", None
        return wire.PING, b""


def body(op, r, side):
    """An answer's body, with what the two number differently as ('zxid', n) and so on."""

    def stat():
        s = r.stat()
        s["owner"] = side.owner(s["owner"])
        for key in ("czxid", "mzxid", "pzxid"):
            s[key] = ("zxid", s[key])
        for key in ("ctime", "mtime"):
            # The clock is the same, to some milliseconds.
            s[key] = "0" if s[key] == 0 else abs(s[key] / 1000 - time.time()) < 3600
        return s

    if op in (wire.CREATE, wire.SYNC):
        return r.text()
    if op in (wire.CREATE2, wire.CONTAINER, wire.CREATE_TTL):
        return r.text(), stat()
    if op in (wire.EXISTS, wire.SET, wire.SET_ACL):
        return stat()
    if op == wire.GET:
        return r.data(), stat()
    if op == wire.GET_ACL:
        return r.acl(), stat()
    if op in (wire.CHILDREN, wire.EPHEMERALS):
        return sorted(r.texts())
    if op == wire.CHILDREN2:
        return sorted(r.texts()), stat()
    if op in (wire.MULTI, wire.MULTI_READ):
        results = []
        while True:
            kind, done, error = r.unpack("i?i")
            if done:
                return results
            if kind == -1:
                results.append(("error", error, r.int()))
            else:
                results.append((kind, error, None if kind in (wire.DELETE, wire.CHECK) else body(kind, r, side)))
    if op == wire.ALL_CHILDREN:
        return r.int()
    if op == wire.WHO:
        return sorted((r.text(), r.text()) for _ in range(r.int()))
    return r.body[r.at :]


WRITES = (wire.CREATE, wire.CREATE2, wire.DELETE, wire.SET, wire.SET_ACL, wire.CONTAINER, wire.CREATE_TTL)


def perform(side, index, op, record):
    client = side.clients[index]
    if op == "reopen":
        client.close()
        heard = client.heard
        side.clients[index] = Client(side.server.address)
        return ("reopened", heard)
    if op == "reconnect":
        client.ping()
        heard = client.heard
        client.drop()
        time.sleep(0.01)
        again = Client(side.server.address, session=client.session, password=client.password, last=side.last)
        same = again.session == client.session
        side.clients[index] = again
        return ("reconnected", same, heard)
    xid = {wire.PING: -2, wire.AUTH: -4}.get(op)
    error, zxid, r = client.request(op, record, xid)
    side.last = max(side.last, zxid)
    shown = ("zxid", zxid) if op in WRITES and error == 0 else None
    return (error, shown, body(op, r, side) if error == 0 else None)


def compare(zxids, theirs, ours):
    if isinstance(theirs, tuple) and len(theirs) == 2 and theirs[0] == "zxid":
        return zxids.same(theirs[1], ours[1])
    if isinstance(theirs, dict):
        return all(compare(zxids, theirs[key], ours[key]) for key in theirs)
    if isinstance(theirs, (tuple, list)):
        alike = isinstance(ours, (tuple, list)) and len(theirs) == len(ours)
        return alike and all(compare(zxids, a, b) for a, b in zip(theirs, ours))
    return theirs == ours


def run(operations, seed):
    script, zxids, differences, unordered = Script(seed), Zxids(), 0, set()
    with ZooKeeper() as zookeeper, Pointsman() as pointsman:
        sides = [Side(zookeeper), Side(pointsman)]
        for side in sides:
            side.clients[0].request(wire.CREATE, wire.create("/t"))
        for number in range(operations):
            index = script.random.randrange(SESSIONS)
            op, record = script.step(index)
            if TRACE:
                print(number, index, op, record)
            answers = [perform(side, index, op, record) for side in sides]
            if op == "reopen":
                # The ephemeral nodes of a session go in no order that ZooKeeper would promise.
                unordered = set(range(SESSIONS))
            if index in unordered and op in ("reopen", "reconnect"):
                answers = [(*answer[:-1], sorted(answer[-1])) for answer in answers]
            if not compare(zxids, *answers):
                differences += 1
                print(f"operation {number}, session {index}: {op} {record!r}\n  ZooKeeper {answers[0]}\n  pointsman {answers[1]}")
            if script.random.random() < 0.1:
                for i in range(SESSIONS):
                    for side in sides:
                        side.clients[i].ping()
                    heard = [taken(side.clients[i]) for side in sides]
                    if i in unordered:
                        heard = [sorted(events) for events in heard]
                        unordered.discard(i)
                    if heard[0] != heard[1]:
                        differences += 1
                        print(f"after operation {number}, session {i} heard\n  ZooKeeper {heard[0]}\n  pointsman {heard[1]}")
            if differences > 10:
                break
        zxids.check_order()
    print(f"{number + 1} operations, seed {seed}: {differences} differences")
    return differences


def taken(client):
    heard, client.heard = client.heard, []
    return heard


if __name__ == "__main__":
    operations = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    sys.exit(1 if run(operations, seed) else 0)
