"""The system's own resolver: search domains, the hosts file and getaddrinfo, against a real DNS server.

resolv.conf belongs to the whole machine, so each test gets mount and network namespaces of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_FILES = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\nsearch prod.test\noptions ndots:2 timeout:2 attempts:2\n",
    "/etc/hosts": "127.0.0.1 localhost\n10.9.9.9 pinned.prod.test\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}


def _why_not() -> str | None:
    if os.name != "posix" or os.geteuid() != 0:
        return "only root may make namespaces"
    if missing := [name for name in ("unshare", "ip", "mount", "sh") if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    if missing := [path for path in _FILES if not Path(path).exists()]:
        return f"nothing to mount over: {', '.join(missing)}"
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True).returncode:
        return "the kernel allows no namespaces here"
    return None


_REASON = _why_not()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=_REASON or "")


def _run_scenario(folder: Path, way: str) -> dict[str, Any]:
    mounts = []
    for path, text in _FILES.items():
        private = folder / Path(path).name
        private.write_text(text)
        mounts.append(f"mount --bind '{private}' '{path}'")
    script = " && ".join(["ip link set lo up", *mounts, 'exec "$@"'])
    # Names that the C library knows and DNS does not: they stand for mDNS, VPNs and the like.
    aliases = folder / "aliases"
    aliases.write_text("aliased pinned.prod.test\n")
    program = [sys.executable, "-W", "error", "-m", "tests.resolvers.system_scenario", way]
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", script, "sh", *program],
        cwd=_ROOT, env=os.environ | {"HOSTALIASES": str(aliases)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["getaddrinfo", "dnspython"])
def test_system_resolver_is_followed(tmp_path: Path, way: str) -> None:
    said = _run_scenario(tmp_path, way)

    assert said.pop("error").startswith("cannot resolve 'svc': ")
    assert said == {
        "pinned": ["10.9.9.9:1"],
        "localhost": ["127.0.0.1:1"],
        "aliased": ["10.0.0.9:1"],
        "updates": [["10.0.0.1:50051", "[fd00::1]:50051"], ["10.0.0.1:50051", "10.0.0.2:50051"]],
    }
