"""An instance that answers as its paths say; any other path with a few bytes."""

import hashlib
import socketserver
import threading
import time

PIECE = bytes(range(256)) * 256


class Origin(socketserver.ThreadingTCPServer):
    """Serves in threads of its own for as long as the program lives. `gone` counts endless answers whose reader left."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Connection)
        self.port = self.server_address[1]
        self.gone = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Connections break when requests are broken off: that is part of what is tested."""


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            method, target, _ = line.decode("latin-1").split(" ")
            fields = {}
            while line := self.rfile.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip()
            if target == "/early":
                return self.early()
            if fields.get("expect") == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            digest, length = hashlib.sha256(), 0
            for piece in self.body(fields):
                digest.update(piece)
                length += len(piece)
            match target.split("/")[1:]:
                case ["digest"]:
                    self.answer(f"{digest.hexdigest()} {length}".encode())
                case ["bytes", n]:
                    self.head("Content-Length: " + n)
                    # Bytes behind the answer to a HEAD would be taken for the next answer.
                    for piece in pieces(0 if method == "HEAD" else int(n)):
                        self.wfile.write(piece)
                case ["chunks", n]:
                    self.head("Transfer-Encoding: chunked")
                    for piece in pieces(int(n)):
                        self.chunk(piece)
                    self.chunk(b"")
                case ["endless"]:
                    self.endless()
                case ["gone"]:
                    self.answer(str(self.server.gone).encode())
                case _:
                    self.answer(b"hello")

    def body(self, fields):
        if fields.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(fields.get("content-length", 0))
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            if not piece:
                raise ConnectionError("the body is cut short")
            left -= len(piece)
            yield piece

    def early(self):
        """Says no to a body that it has not read, and reads no more of it than what is on its way."""
        self.wfile.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much")
        self.request.shutdown(1)
        self.request.settimeout(2)
        while self.request.recv(1 << 16):
            pass

    def endless(self):
        self.head("Transfer-Encoding: chunked")
        try:
            while True:
                self.chunk(PIECE)
                time.sleep(0.01)
        except OSError:
            self.server.gone += 1
            raise

    def head(self, framing):
        self.wfile.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())

    def answer(self, body):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def chunk(self, piece):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))


def pieces(n):
    while n > 0:
        yield PIECE[:n]
        n -= len(PIECE)
