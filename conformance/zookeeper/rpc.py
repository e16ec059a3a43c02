"""A real Dubbo provider and consumer find each other through pointsman; then the provider is called through a listener.

rpc.py DIRECTORY-OF-JARS
"""

import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

from servers import Pointsman, free_port

JARS = pathlib.Path(sys.argv[1])
CLASSPATH = f"{JARS}/classes:{JARS}/lib/*"
OPENS = ["--add-opens", "java.base/java.lang=ALL-UNNAMED", "--add-opens", "java.base/java.math=ALL-UNNAMED"]


def java(name, *args):
    command = ["java", *OPENS, "-cp", CLASSPATH, f"conformance.{name}", *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def until(what, look, patience=60):
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"there was never: {what}"
        time.sleep(0.05)
    return found


def wait_for(process, line):
    for said in process.stdout:
        if said.startswith(line):
            return said.strip()
    raise AssertionError(f"{line!r} was never said")


def run():
    listener = free_port()
    more = f"""
[listener.rpc]
# Dubbo goes to the machine's own address instead of 127.0.0.1.
bind = "0.0.0.0:{listener}"
protocol = "tcp"
service = "conformance.Greeter"
"""
    with Pointsman(more) as pointsman:
        api = re.search(r"api +(http://\S+)", (pointsman.home / "log").read_text())[1]

        def instances(service):
            try:
                with urllib.request.urlopen(f"{api}/v1/services/{service}") as answer:
                    return json.load(answer)["instances"]
            except urllib.error.HTTPError:
                return []

        registry = f"zookeeper://127.0.0.1:{pointsman.port}"
        port = free_port()
        provider = java("Provider", registry, str(port))
        try:
            wait_for(provider, "serving")
            for service in ("conformance.Greeter", "greeter-provider"):
                (found,) = until(f"an instance of {service}", lambda: instances(service))
                # At which of the machine's addresses is Dubbo's choice.
                assert found["port"] == port, found
                print(service, found["id"], "weight", found["weight"])
            wanted = f"answer: hello world from {port}"
            for where in (registry, f"dubbo://127.0.0.1:{listener}"):
                consumer = java("Consumer", where)
                try:
                    assert wait_for(consumer, "answer") == wanted
                    print(where, wanted)
                finally:
                    consumer.kill()
            began = time.monotonic()
            provider.stdin.close()
            until("none of them any more", lambda: not instances("conformance.Greeter"))
            print(f"gone {time.monotonic() - began:.1f} s after the provider was told to stop")
        finally:
            provider.kill()


if __name__ == "__main__":
    run()
