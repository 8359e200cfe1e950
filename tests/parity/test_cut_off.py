"""A backend whose packets vanish: TCP goes on trying, ever more seldom, and grpcio with it.

In a network namespace of its own, which takes root and nftables; elsewhere the ChaosProxy of `test_hangs` must do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parity.tally import Tally
from tests.parity.test_hangs import SLACK

ROOT = Path(__file__).parents[2]


def can_cut_off() -> bool:
    """Whether this process may make a network namespace and filter packets in it."""
    if not all(map(shutil.which, ("unshare", "nft", "ip"))):
        return False
    probe = "ip link set lo up && nft add table inet lab"
    return subprocess.run(["unshare", "-n", "sh", "-c", probe], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_cut_off(), reason="takes root, unshare, ip and nft")
def test_dropped_packets(tally: Tally) -> None:
    command = ["unshare", "-n", sys.executable, "-m", "tests.parity.cut_off"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for what in ("out", "back"):
        tally.note(f"{what} after, s", found[what])
    tally.note("failed calls, begun once ours were rid of it", found["failed"])
    tally.note("failed calls, begun after the repair", found["failed_after"])

    for name in ("sync", "aio"):
        native = f"native {name}"
        assert found["out"][name] < 1.5 + SLACK, found
        assert found["back"][name] < 1.0 + SLACK, found
        assert found["back"][name] <= found["back"][native] + 0.5, found
        assert found["failed"][name] == 0, found
        assert found["failed"][native] > 0, found
