"""slowhttptest's slow heads, bodies and readers, a thousand connections of each, while somebody else is served all the time.
Nothing is done where it is not there."""

import http.client
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import node
from origin import Origin

ATTACKS = {
    "slow heads": ["-H", "-i", "2", "-t", "GET", "-x", "24"],
    "slow bodies": ["-B", "-i", "2", "-s", "8192", "-t", "POST", "-x", "10"],
    "slow readers": ["-X", "-n", "2", "-w", "1", "-y", "8", "-z", "1", "-k", "3"],
}


def served(port, attack):
    """Asks again and again until the attack ends; says how often, and how long the slowest took."""
    asked, slowest = 0, 0.0
    while attack.poll() is None:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"hello")
        connection.close()
        asked, slowest = asked + 1, max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    return asked, slowest


def main():
    program = shutil.which("slowhttptest")
    if not program:
        print("skipped: slowhttptest is not there (apt install slowhttptest)")
        return
    with node.in_front_of(Origin().port) as (ports, _):
        port = ports["web"]
        for name, how in ATTACKS.items():
            url = f"http://127.0.0.1:{port}/bytes/1000000"
            command = [program, *how, "-c", "1000", "-r", "500", "-l", "20", "-p", "5", "-u", url]
            attack = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            asked, slowest = served(port, attack)
            print(f"{name}: {asked} of {asked} others served, the slowest in {slowest * 1000:.0f} ms", flush=True)
            assert asked > 50, "it ended at once"


main()
