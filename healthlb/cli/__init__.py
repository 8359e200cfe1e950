"""The command line: parsing and printing only, behind the extra `cli`.

Nothing outside this package may need click or rich, nor may `healthlb probe`.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the `healthlb` command; without the extra `cli` it says in one line what to install."""
    if sys.argv[1:2] == ["probe"]:
        # gRPC's own log would say again, at length, what the probe says in a line.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from healthlb.cli import probe

        sys.exit(probe.main(sys.argv[2:]))
    try:
        from healthlb.cli.app import cli
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("click", "rich"):
            raise
        sys.exit(f'healthlb: the command line needs {missing}: install "healthlb[cli]"')
    cli(prog_name="healthlb")
