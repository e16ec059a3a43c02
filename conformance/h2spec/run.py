"""h2spec, strict, against a listener without TLS and one with it. Nothing is done where there is no Go to get it with."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import node
from origin import Origin

H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

# Cases that a listener cannot pass, and why.
EXCUSED = {
    "web": {
        # The listener speaks HTTP/1.1 as well: what is no preface of HTTP/2 is answered with 400, in HTTP/1.1.
        "Sends invalid connection preface",
    },
    "secure": set(),
}


def tool():
    """The program, built where it is not; None without Go."""
    given = os.environ.get("H2SPEC") or shutil.which("h2spec")
    if given:
        return given
    programs = node.made_by_go(node.tools(), [H2SPEC])
    return programs and programs["h2spec"]


def failures(program, name, port):
    """Names of the cases that fail, with what h2spec says of them."""
    more = ["-t", "-k"] if name == "secure" else []
    command = [program, "-S", "-h", "127.0.0.1", "-p", str(port), "-o", "5", *more]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"{name}: {run.stdout.strip().splitlines()[-1]}")
    assert " tests, " in run.stdout, run.stdout + run.stderr
    _, _, listed = run.stdout.partition("Failures:")
    return {found[1].strip(): listed for found in re.finditer(r"× \d+: (.*)", listed)}


def main():
    program = tool()
    if program is None:
        print("skipped: h2spec is not there, and there is no Go to get it with (apt install golang-go)")
        return
    faults = []
    with node.in_front_of(Origin().port) as (ports, _):
        for name, port in sorted(ports.items()):
            for case, said in failures(program, name, port).items():
                if case in EXCUSED[name]:
                    print(f"{name}: excused: {case}")
                else:
                    faults.append(f"{name}: {case}\n{said}")
    sys.exit("\n".join(faults) or 0)


main()
