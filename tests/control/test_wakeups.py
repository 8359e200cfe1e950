"""A forked child has wakeups of its own: what its parent says to its own threads is not taken by the child.

C-core's fork handlers sit out while a thread is inside gRPC, as one in a blocking call is; plain grpcio is the control.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import textwrap

import pytest

from healthlb.control.wakeups import find_wakeups

PROGRAM = """
    import json, os, sys, threading, time
    import grpc
    if sys.argv[1] == "ours":
        import healthlb.control.forks
    from healthlb.control.wakeups import find_wakeups

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    channel = grpc.insecure_channel("127.0.0.1:1")
    call = channel.unary_unary("/a/b")
    # A blocking call that waits in gRPC for its time.
    caller = threading.Thread(target=lambda: call(b"", timeout=20, wait_for_ready=True), daemon=True)
    caller.start()
    while not (wakeups := find_wakeups("cygrpc")):
        time.sleep(0.001)
    time.sleep(0.3)
    (wakeup,) = wakeups

    def identity():
        text = open(f"/proc/self/fdinfo/{wakeup.event}").read()
        return next(line for line in text.splitlines() if line.startswith("eventfd-id"))

    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        found = [list(one) for one in find_wakeups("cygrpc")]
        os.write(writer, json.dumps([identity(), found]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    theirs, found = json.loads(os.read(reader, 10000))
    os.write(1, json.dumps([theirs == identity(), found == [list(wakeup)]]).encode())
    os._exit(0)
"""


@pytest.mark.parametrize(("kind", "is_shared"), [("plain", True), ("ours", False)])
def test_a_child_has_wakeups_of_its_own(kind: str, is_shared: bool) -> None:
    """The child's eventfd is another one than the parent's, and stands where the parent's stood."""
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), kind], stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout

    assert json.loads(printed) == [is_shared, True]


def test_others_are_left_alone() -> None:
    """An eventfd of the application's own, in an epoll instance of its own, is nobody's wakeup."""
    event = os.eventfd(0, os.EFD_CLOEXEC)
    with select.epoll() as instance:
        instance.register(event, select.EPOLLIN | select.EPOLLET)
        found = find_wakeups("cygrpc")
    os.close(event)

    assert event not in [wakeup.event for wakeup in found]
