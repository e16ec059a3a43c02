"""A real ZooKeeper's tree is imported, twice, with changes in between; then both are compared."""

import os
import struct
import subprocess

import wire
from servers import Pointsman, ZooKeeper
from wire import Client

AUTH = struct.pack(">i", 0) + wire.text("digest") + wire.data(b"bob:pw")


def tree(client, path="/"):
    """Path, data, access list of every node that is no server's own."""
    error, _, r = client.request(wire.GET, wire.watched(path))
    if error:
        return {path: error}
    data, stat = r.data(), r.stat()
    _, _, r = client.request(wire.GET_ACL, wire.text(path))
    found = {} if stat["owner"] else {path: (data, r.acl())}
    _, _, r = client.request(wire.CHILDREN, wire.watched(path))
    for name in r.texts():
        if name != "zookeeper":
            found |= tree(client, f"{path.rstrip('/')}/{name}")
    return found


def run():
    with ZooKeeper() as zookeeper, Pointsman() as pointsman:
        old, new = Client(zookeeper.address), Client(pointsman.address)
        for client in (old, new):
            client.request(wire.AUTH, AUTH, -4)

        def create(path, data=b"x", acl=wire.OPEN, flags=0):
            error, _, _ = old.request(wire.CREATE, wire.create(path, data, acl, flags))
            assert error == 0, (path, error)

        def bring_over():
            address = "{}:{}"
            command = [os.environ["POINTSMAN"], "import", "zookeeper", address.format(*zookeeper.address)]
            command += ["--to", address.format(*pointsman.address), "--digest", "bob:pw"]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        create("/a", None)
        create("/a/big", bytes(500_000))
        create("/secret", b"s", [(31, "auth", "")])
        create("/secret/child", b"c")
        create("/queue", b"")
        for _ in range(700):
            create("/queue/n-", b"", flags=2)
        for number in range(690):
            old.request(wire.DELETE, wire.versioned(f"/queue/n-{number:010}"))
        create("/here", b"", flags=1)
        bring_over()
        assert tree(old) == tree(new)
        _, _, r = new.request(wire.CREATE, wire.create("/queue/n-", b"", wire.OPEN, 2))
        assert r.text() == "/queue/n-0000000700"
        new.request(wire.DELETE, wire.versioned("/queue/n-0000000700"))
        old.request(wire.SET, wire.set_data("/a", b"changed"))
        create("/a/later")
        bring_over()
        assert tree(old) == tree(new)
        print("imported, and the same")


if __name__ == "__main__":
    run()
