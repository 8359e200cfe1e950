"""The versions that are tested besides the newest ones.

`lowest.txt` and `middle.txt` say what is installed, and `selection.txt` what is run with them: see `.ci/run`. The marker `needs` of
`tests/conftest.py` leaves out what an older package cannot do.
"""

import grpc


def release(version: str) -> tuple[int, ...]:
    """Return what a version compares by: `1.68.1` is (1, 68, 1)."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


# grpcio's poller reads what another loop has read already, and asyncio logs a BlockingIOError: with plain channels of `grpc.aio`
# on several loops, too. None where it does not.
LATE_POLLER = "PollerCompletionQueue._handle_events" if release(grpc.__version__) < (1, 83) else None
