"""`import healthlb.aio` brings all that a channel needs: a running loop need not wait for imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import asyncio, sys
import grpc
import healthlb.aio

targets = sys.argv[1].split(",")

async def requests():
    yield b""

class Passing(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(details, request)

async def every_arity(channel):
    await channel.unary_unary("/test.Echo/Unary")(b"", timeout=20)
    await channel.stream_unary("/test.Echo/ClientStream")(requests(), timeout=20)
    async for _ in channel.unary_stream("/test.Echo/ServerStream")(b"", timeout=20):
        pass
    async for _ in channel.stream_stream("/test.Echo/Bidi")(requests(), timeout=20):
        pass

async def main():
    before = set(sys.modules)
    for arguments in ({}, {"interceptors": [Passing()]}, {"picker": "least_request"}):
        async with healthlb.aio.HealthAwareChannel(targets, "svc", **arguments) as channel:
            await channel.unary_unary("/test.Echo/Unary")(b"", timeout=20)
            await channel.wait_until_ready(20, min_ready=len(targets))
            await every_arity(channel)
    print(sorted(name for name in set(sys.modules) - before if name.startswith(("healthlb", "grpc", "google", "backoff"))))

asyncio.run(main())
"""


def test_a_running_loop_imports_nothing(targets: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, ",".join(targets)],
        capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip

    assert (ended.stdout, ended.stderr) == ("[]\n", "")
