"""httpx with HTTP/1.1 and HTTP/2: arguments are the URLs of the listeners without and with TLS."""

import hashlib
import os
import ssl
import sys
import time

import httpx

LARGE = 20 << 20
PIECE = bytes(range(256)) * 256


def stream():
    for _ in range(LARGE // len(PIECE)):
        yield PIECE


def digest(body):
    return f"{hashlib.sha256(body).hexdigest()} {len(body)}"


def check(client, base, version):
    for _ in range(20):
        answer = client.get(f"{base}/")
        assert (answer.status_code, answer.text, answer.http_version) == (200, "hello", version), answer
    streams = [answer.extensions["network_stream"]]
    again = client.get(f"{base}/").extensions["network_stream"]
    assert streams == [again] or version == "HTTP/1.1" and same_port(streams[0], again), "the connection was not kept"

    body = PIECE * (LARGE // len(PIECE))
    assert client.post(f"{base}/digest", content=body).text == digest(body)
    assert client.post(f"{base}/digest", content=stream()).text == digest(body)
    for path in ("bytes", "chunks"):
        got = client.get(f"{base}/{path}/{LARGE}").content
        assert digest(got) == digest(body), f"{path}: {len(got)} bytes"

    answer = client.post(f"{base}/early", content=body)
    assert answer.status_code == 413, answer
    assert client.head(f"{base}/bytes/5").headers["content-length"] == "5"

    if version == "HTTP/2":
        # It leaves such a stream to itself, without a word to the server.
        return
    before = int(client.get(f"{base}/gone").text)
    with client.stream("GET", f"{base}/endless") as answer:
        next(answer.iter_raw())
    deadline = time.monotonic() + 20
    while int(client.get(f"{base}/gone").text) == before:
        assert time.monotonic() < deadline, "the instance did not hear that the request was broken off"
        time.sleep(0.05)


def same_port(one, other):
    return one.get_extra_info("client_addr") == other.get_extra_info("client_addr")


web, secure = sys.argv[1:]
trust = ssl.create_default_context(cafile=os.environ["CA"])
for base, http2 in ((web, False), (secure, False), (secure, True)):
    with httpx.Client(verify=trust, http2=http2, timeout=30) as client:
        check(client, base, "HTTP/2" if http2 else "HTTP/1.1")
