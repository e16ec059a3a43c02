"""testssl.sh against a listener with TLS: nothing that it takes for worse than an information, but what is excused below.
Nothing is done where it is not there."""

import json
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import node
from origin import Origin

EXCUSED = {
    # Every suite that is left is a good one, and devices know best which of them they are quick at: Mozilla's advice too.
    "cipher_order": "the client's order counts",
    # Of the certificate of this test, and of its host, not of the listener.
    "cert_chain_of_trust": "self-signed",
    "cert_expirationStatus": "a month",
    "cert_notAfter": "a month",
    "cert_revocation": "self-signed",
    "DNS_CAArecord": "no DNS",
    # The applications' to say.
    "HSTS": "no field is added",
    "security_headers": "no field is added",
}


def main():
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if not program:
        print("skipped: testssl.sh is not there (apt install testssl.sh)")
        return
    with node.in_front_of(Origin().port) as (ports, place):
        found = place / "found.json"
        quiet = ["--quiet", "--color", "0", "--warnings", "off", "--jsonfile", found]
        subprocess.run([program, *quiet, f"127.0.0.1:{ports['secure']}"], capture_output=True, check=False)
        found = json.loads(found.read_text())
    assert any(f["id"] == "TLS1_3" and f["severity"] == "OK" for f in found), "it did not get to the protocols"
    bad = [f for f in found if f["severity"] not in ("OK", "INFO")]
    for f in bad:
        if f["id"] in EXCUSED:
            print(f"excused: {f['id']}: {f['finding']} ({EXCUSED[f['id']]})")
    faults = [f"{f['severity']} {f['id']}: {f['finding']}" for f in bad if f["id"] not in EXCUSED]
    print(f"{len(found)} findings, {len(faults)} of them bad")
    sys.exit("\n".join(faults) or 0)


main()
