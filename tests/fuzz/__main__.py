"""Fuzz one reader of foreign bytes: `python -m tests.fuzz orca --seconds 600`. Needs `pip install atheris`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["healthlb"]):
    from tests.fuzz.targets import TARGETS

_CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Run until the time is over, or until a finding, whose bytes are written to crash-*."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="how long; default 60")
    parser.add_argument("--findings", default="build/fuzz", help="folder for new inputs and findings")
    arguments = parser.parse_args()
    new = Path(arguments.findings) / arguments.target
    new.mkdir(parents=True, exist_ok=True)
    # libFuzzer writes what is new to the first folder and only reads the second.
    limits = [f"-max_total_time={arguments.seconds}", "-rss_limit_mb=2048", "-timeout=10", f"-artifact_prefix={new}/"]
    atheris.Setup([sys.argv[0], *limits, str(new), str(_CORPUS / arguments.target)], TARGETS[arguments.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
