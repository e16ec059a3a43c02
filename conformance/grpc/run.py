"""grpc-go's interoperability client through a node to grpc-go's interoperability server, with TLS on both sides and without
(https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md). Nothing is done where there is no Go."""

import base64
import contextlib
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import node as ours  # noqa: E402

VERSION = "v1.77.0"
PACKAGES = [f"google.golang.org/grpc/interop/{name}@{VERSION}" for name in ("client", "server")]

CASES = """
empty_unary large_unary client_streaming server_streaming ping_pong empty_stream timeout_on_sleeping_server
cancel_after_begin cancel_after_first_response status_code_and_message special_status_message custom_metadata
unimplemented_method unimplemented_service orca_per_rpc orca_oob rpc_soak channel_soak
""".split()

# Cases that are not run, and why.
SKIPPED = {
    "pick_first_unary": "wants the server's name, which grpc-go's server does not tell, without a proxy either",
    "compute_engine_creds": "needs a machine of Google's",
    "service_account_creds": "needs an account at Google's",
    "jwt_token_creds": "needs an account at Google's",
    "per_rpc_creds": "needs an account at Google's",
    "oauth2_auth_token": "needs an account at Google's",
    "google_default_credentials": "needs an account at Google's",
    "compute_engine_channel_credentials": "needs a machine of Google's",
}

CONFIG = """
[listener.plain]
bind = "127.0.0.1:0"
service = "plain"
grpc_web = true
[listener.secure]
bind = "127.0.0.1:0"
protocol = "https"
service = "secure"
[listener.secure.tls]
certificates = [{{ cert = "{home}/cert.pem", key = "{home}/key.pem" }}]
[service.plain]
protocol = "h2"
[[service.plain.instance]]
address = "127.0.0.1:{plain}"
[service.secure]
protocol = "h2"
tls = {{ ca = "{home}/ca.pem", server_name = "localhost" }}
[[service.secure.instance]]
address = "127.0.0.1:{secure}"
"""


@contextlib.contextmanager
def server(program, more):
    """A running server; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([program, "-port", str(port), *more], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def call(program, port, case, more):
    """What is wrong with a case; None if nothing."""
    soak = ["-soak_num_threads", "4", "-soak_iterations", "40", "-soak_overall_timeout_seconds", "60"]
    if case.startswith("orca"):
        # Reports are given to whoever balances; the client has one for this test.
        balancer = '{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}'
        more = [*more, "-service_config_json", balancer]
    command = [program, "-server_host", "127.0.0.1", "-server_port", str(port), "-test_case", case, *soak, *more]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:
        return "does not end"
    return None if run.returncode == 0 else run.stderr[-2000:]


def in_web(port):
    """A call as a browser makes it, in both of its forms; what is wrong, or None."""
    url = f"http://127.0.0.1:{port}/grpc.testing.TestService/EmptyCall"
    message, ends = bytes(5), (b"\x80", b"grpc-status:0")
    for text in (False, True):
        body = base64.b64encode(message) if text else message
        kind = "application/grpc-web-text+proto" if text else "application/grpc-web+proto"
        request = urllib.request.Request(url, data=body, headers={"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                said, is_kind = answer.read(), answer.headers["Content-Type"]
        except urllib.error.URLError as fault:
            return str(fault)
        if text:
            groups = (said[at : at + 4] for at in range(0, len(said), 4))
            said = b"".join(base64.b64decode(group) for group in groups)
        well = said.startswith(message + ends[0]) and ends[1] in said and is_kind.startswith(kind.partition("+")[0])
        if not well:
            return f"{is_kind}: {said!r}"
    return None


def main():
    programs = ours.made_by_go(ours.tools(), PACKAGES)
    if programs is None:
        print("skipped: there is no Go to make grpc-go's client and server with (apt install golang-go)")
        return
    faults = []
    with ours.place("grpc") as place:
        ours.certificate(place)
        key = ["-use_tls", "-tls_cert_file", f"{place}/cert.pem", "-tls_key_file", f"{place}/key.pem"]
        trust = ["-use_tls", "-use_test_ca", "-ca_file", f"{place}/ca.pem", "-server_host_override", "localhost"]
        with server(programs["server"], []) as plain, server(programs["server"], key) as secure:
            config = CONFIG.format(home=place, plain=plain, secure=secure)
            with ours.node(place, config) as listeners:
                for name, more in (("plain", []), ("secure", trust)):
                    for case in CASES:
                        began = time.monotonic()
                        fault = call(programs["client"], listeners[name], case, more)
                        took = f"{time.monotonic() - began:.1f} s"
                        print(f"{name}: {case}: {'FAILS' if fault else 'passes'} ({took})", flush=True)
                        if fault:
                            faults.append(f"{name}: {case}\n{fault}")
                fault = in_web(listeners["plain"])
                print(f"plain: gRPC-Web, binary and text: {'FAILS' if fault else 'passes'}")
                faults += [f"gRPC-Web: {fault}"] if fault else []
    for case, why in SKIPPED.items():
        print(f"skipped: {case}: {why}")
    sys.exit("\n".join(faults) or 0)


main()
