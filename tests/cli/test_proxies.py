"""No proxy of the environment stands between the commands, or the checks, and this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import Backend

ROOT = Path(__file__).resolve().parents[2]
DEAD = "http://127.0.0.1:9"  # Nobody listens there, so whoever goes by it fails.
CHECKS = """
import sys, threading, http.server
import healthlb
from healthlb.server import checks
with healthlb.HealthAwareChannel([sys.argv[1]], "svc") as channel:
    channel.unary_unary("/test.Echo/Unary")(b"", timeout=10.0)
with healthlb.HealthClient(sys.argv[1]) as client:
    client.check("svc", timeout=10.0, require_serving=True)
checks.grpc_service(sys.argv[1], "svc", timeout=10.0)()
class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *arguments):
        pass
with http.server.HTTPServer(("127.0.0.1", 0), Well) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    checks.http_get(f"http://127.0.0.1:{server.server_port}/", timeout=10.0)()
    server.shutdown()
print("healthy")
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start a backend; return its address."""
    with Backend(name="b0", services=("svc",)) as backend:
        yield backend.address


BY_ADDRESS = {"GRPC_ADDRESS_HTTP_PROXY": "127.0.0.1:9", "GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES": "127.0.0.0/8"}


@pytest.fixture(
    params=[BY_ADDRESS, *({name: DEAD} for name in ("grpc_proxy", "https_proxy", "http_proxy"))],
    ids=lambda proxy: next(iter(proxy)),
)
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return an environment with one proxy, which does not work."""
    others = {name: value for name, value in os.environ.items() if "_proxy" not in name.lower()}
    return others | request.param | {"PYTHONPATH": str(ROOT)}


def run(environment: dict[str, str], *arguments: str, returncode: int = 0) -> str:
    """Run Python; return what it prints."""
    command = [sys.executable, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)

    assert ended.returncode == returncode, ended.stderr
    return ended.stdout + ended.stderr


def test_probe_list_and_watch(address: str, environment: dict[str, str]) -> None:
    port = address.rpartition(":")[2]
    probed = run(
        environment, "-m", "healthlb", "probe", "-addr", f":{port}", "-service", "svc", "-connect-timeout", "10s"
    )
    listed = run(environment, "-m", "healthlb", "list", address, "--timeout", "10", returncode=3)

    assert "status: SERVING" in probed
    assert "UNIMPLEMENTED" in listed  # grpcio-health-checking's answer: it was reached
    command = [sys.executable, "-u", "-m", "healthlb", "watch", "--service", "svc", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        watching.terminate()
    assert first.endswith(f"{address} SERVING\n")


def test_checks(address: str, environment: dict[str, str]) -> None:
    assert run(environment, "-c", CHECKS, address) == "healthy\n"
