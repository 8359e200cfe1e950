"""A client works next to an application's own compiled `health.proto` of the same package, and needs none itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from grpc_tools import protoc

from tests.versions import LATE_POLLER

PROTO = """
syntax = "proto3";
package grpc.health.v1;

message HealthCheckRequest {
  string service = 1;
}

message HealthCheckResponse {
  enum ServingStatus {
    UNKNOWN = 0;
    SERVING = 1;
    NOT_SERVING = 2;
    SERVICE_UNKNOWN = 3;
  }
  ServingStatus status = 1;
  string version = 15;
}

service Health {
  rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
}
"""
IMPORTS = {
    "application first": "import health_pb2, health_pb2_grpc; import healthlb, healthlb.aio",
    "healthlb first": "import healthlb, healthlb.aio; healthlb.HealthAwareChannel; import health_pb2, health_pb2_grpc",
}
CALLS = """
import asyncio, sys
targets = sys.argv[1].split(",")

def served(status):
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status.status)

request = health_pb2.HealthCheckRequest(service="svc")
with healthlb.HealthAwareChannel(targets, "svc") as channel:
    channel.wait_until_ready(20, min_ready=len(targets))
    print(served(health_pb2_grpc.HealthStub(channel).Check(request, timeout=20)))

async def main():
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        await channel.wait_until_ready(20, min_ready=len(targets))
        print(served(await health_pb2_grpc.HealthStub(channel).Check(request, timeout=20)))

asyncio.run(main())
print("grpc_health.v1" in sys.modules)
"""
ROOT = Path(__file__).resolve().parents[2]


def run(code: str, *arguments: str, path: Path | None = None) -> list[str]:
    """Run code in an interpreter of its own; return the lines it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*(str(part) for part in (path, ROOT) if part)])}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


@pytest.mark.parametrize("order", IMPORTS)
def test_next_to_an_own_health_proto(order: str, targets: list[str], tmp_path: Path) -> None:
    compile_own(tmp_path)

    quiet = "import logging; logging.getLogger('asyncio').disabled = True\n" if LATE_POLLER else ""
    assert run(quiet + IMPORTS[order] + CALLS, ",".join(targets), path=tmp_path) == ["SERVING", "SERVING", "False"]


def test_the_server_half_says_that_it_cannot(tmp_path: Path) -> None:
    compile_own(tmp_path)
    code = """
import health_pb2
try:
    import healthlb.server
except ImportError as error:
    print(error)
"""
    said = " ".join(run(code, path=tmp_path))

    assert "cannot be loaded next to another compiled health.proto" in said
    assert "import grpc_health.v1 in its place" in said


def compile_own(tmp_path: Path) -> None:
    (tmp_path / "health.proto").write_text(PROTO)
    out = [f"-I{tmp_path}", f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    assert protoc.main(["protoc", *out, str(tmp_path / "health.proto")]) == 0


def test_no_generated_code_and_no_protobuf_is_imported(targets: list[str]) -> None:
    code = """
import sys, healthlb
with healthlb.HealthAwareChannel(sys.argv[1].split(","), "svc") as channel:
    channel.unary_unary("/test.Echo/Unary")(b"", timeout=20)
print(sorted(name for name in sys.modules if name.startswith(("grpc_health.", "google.protobuf"))))
"""
    assert run(code, ",".join(targets)) == ["[]"]
