"""Many channels, one after the other: none leaves a thread or a word behind."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import pytest

from tests.server.served import Served

CODE = """
import gc, os, sys, threading, time
import grpc, healthlb

def use(ending):
    channel = healthlb.HealthAwareChannel([sys.argv[1]])
    channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20.0)
    if ending == "closed":
        channel.close()

for _ in range(10):
    use(sys.argv[2])
time.sleep(1.5)  # the threads of all of these have ended
for _ in range(100):
    use(sys.argv[3])
gc.collect()
end = time.monotonic() + 20.0
while time.monotonic() < end and any("control" in thread.name for thread in threading.enumerate()):
    time.sleep(0.05)
print([thread.name for thread in threading.enumerate() if "control" in thread.name or "poll" in thread.name])
"""


@pytest.mark.parametrize(("first", "then"), [("closed", "dropped"), ("dropped", "dropped"), ("closed", "closed")])
def test_nothing_is_left_and_nothing_is_said(first: str, then: str) -> None:
    with closing(Served()) as served:
        command = [sys.executable, "-c", CODE, served.address, first, then]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (ended.stdout, ended.stderr, ended.returncode) == ("[]\n", "", 0)
