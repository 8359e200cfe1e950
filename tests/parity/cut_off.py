"""A scenario for a network namespace of its own: packets to and from one backend are dropped, then pass again.

Run as `unshare -n python -m tests.parity.cut_off`; it prints what it has measured as one JSON object. The namespace,
and every rule in it, ends with the process.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from tests.backends import start_backends
from tests.parity.aio_face import AioFace
from tests.parity.contest import FACES, Contest, contest
from tests.parity.fleet import addresses
from tests.parity.sync_face import SyncFace
from tests.parity.test_hangs import QUICK, RATE, back_after, out_after


def main() -> None:
    """Run the scenario."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    backends = start_backends(3, services=("svc",))
    faces = (SyncFace(), AioFace())
    try:
        with contest(faces, addresses(backends), RATE, timeout=1.0, health=QUICK) as run:
            print(json.dumps(measure(run, backends[0].address, backends[0].port)))
    finally:
        for face in faces:
            face.close()
        for backend in backends:
            backend.close()


def measure(run: Contest, address: str, port: int) -> dict[str, Any]:
    """Cut the backend off, wait until ours are rid of it, mend the network, wait until all use it again."""
    cut_at = time.monotonic()
    drop(port)
    gone = out_after({name: run.clients[name] for name in FACES}, address, cut_at)
    out_at = time.monotonic()
    run.wait_for(8 * RATE)  # so long that TCP tries ever more seldom
    mended_at = time.monotonic()
    nft("delete table inet lab")
    returned = back_after(run, "b0", mended_at)
    run.wait_for(RATE)
    return {"out": gone, "back": returned, "failed": run.failed(out_at), "failed_after": run.failed(mended_at)}


def drop(port: int) -> None:
    """Drop every packet to and from this port."""
    nft("add table inet lab")
    nft("add chain inet lab in { type filter hook input priority 0; }")
    for end in ("dport", "sport"):
        nft(f"add rule inet lab in tcp {end} {port} drop")


def nft(command: str) -> None:
    """Change the packet filter."""
    subprocess.run(["nft", command], check=True)


if __name__ == "__main__":
    main()
