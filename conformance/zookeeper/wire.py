"""ZooKeeper's protocol, bare: what is sent and what comes back, with nothing in between."""

import socket
import struct

CREATE, DELETE, EXISTS, GET, SET, GET_ACL, SET_ACL, CHILDREN, SYNC = range(1, 10)
PING, CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG, CHECK_WATCHES, REMOVE_WATCHES = range(11, 19)
CONTAINER, CREATE_TTL, MULTI_READ = 19, 21, 22
AUTH, SET_WATCHES, EPHEMERALS, ALL_CHILDREN, SET_WATCHES2, ADD_WATCH, WHO = 100, 101, 103, 104, 105, 106, 107
CLOSE = -11
OPEN = [(31, "world", "anyone")]


def text(s):
    return data(s.encode())


def data(b):
    return struct.pack(">i", -1) if b is None else struct.pack(">i", len(b)) + b


def acl(lines):
    return struct.pack(">i", len(lines)) + b"".join(
        struct.pack(">i", p) + text(s) + text(i) for p, s, i in lines
    )


def texts(paths):
    return struct.pack(">i", len(paths)) + b"".join(map(text, paths))


def create(path, value=b"", lines=OPEN, flags=0):
    return text(path) + data(value) + acl(lines) + struct.pack(">i", flags)


def create_ttl(path, value, lines, flags, ttl):
    return create(path, value, lines, flags) + struct.pack(">q", ttl)


def versioned(path, version=-1):
    return text(path) + struct.pack(">i", version)


def set_data(path, value, version=-1):
    return text(path) + data(value) + struct.pack(">i", version)


def watched(path, watch=False):
    return text(path) + struct.pack(">?", watch)


def multi(ops):
    body = b"".join(struct.pack(">i?i", op, False, -1) + record for op, record in ops)
    return body + struct.pack(">i?i", -1, True, -1)


class Reader:
    def __init__(self, body):
        self.body, self.at = body, 0

    def unpack(self, layout):
        values = struct.unpack_from(">" + layout, self.body, self.at)
        self.at += struct.calcsize(">" + layout)
        return values

    def int(self):
        return self.unpack("i")[0]

    def data(self):
        length = self.int()
        if length < 0:
            return None
        self.at += length
        return self.body[self.at - length : self.at]

    def text(self):
        value = self.data()
        return None if value is None else value.decode()

    def texts(self):
        return [self.text() for _ in range(self.int())]

    def stat(self):
        names = "czxid mzxid ctime mtime version cversion aversion owner length children pzxid"
        return dict(zip(names.split(), self.unpack("qqqqiiiqiiq")))

    def acl(self):
        return [(self.int(), self.text(), self.text()) for _ in range(self.int())]


class Client:
    """One session over one connection; requests one at a time, events as they come."""

    def __init__(self, address, timeout=30000, session=0, password=b"\0" * 16, last=0):
        self.address, self.xid, self.heard = address, 0, []
        self.socket = socket.create_connection(address, timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        body = struct.pack(">iqiq", 0, last, timeout, session) + data(password) + b"\0"
        self.send(body)
        r = Reader(self.frame())
        _, self.timeout, self.session = r.unpack("iiq")
        self.password = r.data()

    def send(self, body):
        self.socket.sendall(struct.pack(">i", len(body)) + body)

    def frame(self):
        while True:
            if len(self.buffer) >= 4:
                (length,) = struct.unpack_from(">i", self.buffer)
                if len(self.buffer) >= 4 + length:
                    body = self.buffer[4 : 4 + length]
                    self.buffer = self.buffer[4 + length :]
                    return body
            chunk = self.socket.recv(1 << 20)
            if not chunk:
                raise EOFError("the server has closed the connection")
            self.buffer += chunk

    def request(self, op, record=b"", xid=None):
        """Returns the answer as (error, zxid, reader of the body)."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.send(struct.pack(">ii", xid, op) + record)
        while True:
            r = Reader(self.frame())
            got, zxid, error = r.unpack("iqi")
            if got == -1:
                kind, state = r.unpack("ii")
                self.heard.append((kind, state, r.text()))
            else:
                assert got == xid, (got, xid)
                return error, zxid, r

    def ping(self):
        self.request(PING, xid=-2)

    def close(self):
        try:
            self.request(CLOSE)
        finally:
            self.socket.close()

    def drop(self):
        self.socket.close()
