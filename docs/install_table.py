"""Prints what pip chooses for healthlb next to other packages, without installing: `python docs/install_table.py`.

The one rule: pip resolves each row by itself, in an empty environment. It takes minutes, and a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEIGHBOURS = (
    "opentelemetry-exporter-otlp-proto-grpc",
    "google-cloud-pubsub",
    "tritonclient[grpc]",
    "pymilvus",
    "ray",
    "dagster",
    "tensorflow",
    "grpcio-status",
    "betterproto",
    "temporalio",
    # Older releases of these packages hold it back.
    "protobuf<6",
    "protobuf<5",
    "protobuf<4",
)
SHOWN = ("grpcio", "protobuf", "grpcio-health-checking")
LIMIT = 600.0  # seconds for one resolution


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip; return how it ended and what it said."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def built(folder: str) -> str:
    """Return the path of a wheel of this checkout, made in a folder."""
    ended = pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(ROOT))
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return str(next(Path(folder).glob("healthlb-*.whl")))


def resolved(*requirements: str) -> dict[str, str] | str:
    """Return the version of each package that pip would install, or its last word on why it cannot."""
    flags = ("--dry-run", "--ignore-installed", "--quiet", "--only-binary", ":all:", "--report", "-")
    ended = pip("install", *flags, *requirements)
    if ended.returncode:
        return next(line for line in reversed(ended.stderr.splitlines()) if line.startswith("ERROR"))
    found = [package["metadata"] for package in json.loads(ended.stdout)["install"]]
    return {package["name"].lower().replace("_", "-"): package["version"] for package in found}


def row(neighbour: str, wheel: str) -> str:
    """Return a row of the table: the neighbour with a client, and with the extra `server`."""
    versions = resolved(f"{wheel}[server]", neighbour)
    if isinstance(versions, str):
        alone = resolved(wheel, neighbour)
        versions = alone if isinstance(alone, str) else alone | {"grpcio-health-checking": "none fits"}
    if isinstance(versions, str):
        return f"| {neighbour} | {versions} |"
    name = neighbour.split("[")[0].split("<")[0]
    return "| " + " | ".join((neighbour, versions[name], *(versions.get(each, "-") for each in SHOWN))) + " |"


def main(neighbours: Sequence[str]) -> None:
    """Print the table, a row as it comes."""
    print("| next to | version |", " | ".join(SHOWN), "|", flush=True)
    print("|---" * (2 + len(SHOWN)) + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = built(folder)
        for neighbour in neighbours:
            print(row(neighbour, wheel), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or NEIGHBOURS)
