"""The command itself, on the real channel."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "healthlb.cli"]


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "demo", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def backends_of(process: subprocess.Popen[str], how_many: int = 3) -> list[psutil.Process]:
    give_up_at = time.monotonic() + 20
    while time.monotonic() < give_up_at:
        children = psutil.Process(process.pid).children()
        if len(children) >= how_many:
            return children
        time.sleep(0.05)
    raise AssertionError("the backends did not start")


def test_version() -> None:
    assert ran("--version").stdout.startswith("healthlb, version ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--backends", "1"), "1 is not in the range 2<=x<=20"),
        (("--backends", "21"), "21 is not in the range 2<=x<=20"),
        (("--rate", "0.5"), "0.5 is not in the range 1<=x<=2000"),
        (("--rate", "2001"), "2001.0 is not in the range 1<=x<=2000"),
        (("--rate", "nan"), "'nan' is no number"),
        (("--duration", "4.9"), "4.9 is not in the range 5<=x<=86400"),
        (("--duration", "6000"), "must be at most 1,000,000 calls"),
        (("--duration", "soon"), "'soon' is not a valid float"),
    ],
)
def test_a_bad_option_is_a_usage_error(arguments: tuple[str, ...], complaint: str) -> None:
    result = ran("demo", *arguments)

    assert result.returncode == 2
    assert complaint in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from healthlb.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert result.returncode == 1
    assert result.stderr == f'healthlb: the command line needs {missing}: install "healthlb[cli]"\n'


def test_plain_tells_faults_reactions_and_the_end() -> None:
    result = ran("demo", "--plain", "--duration", "6")

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert "fault:" in result.stdout
    assert "-> TRANSIENT_FAILURE" in result.stdout
    assert result.stdout.splitlines()[-1] == "OK no call was lost that should not have been"


def test_json_is_one_document() -> None:
    result = ran("demo", "--json", "--duration", "6", "--rate", "50", "--backends", "2", "--seed", "3")
    document = json.loads(result.stdout)

    assert result.returncode == 0, document
    assert result.stderr == ""
    assert document["ok"] is True
    assert document["problems"] == []
    assert document["settings"] == {"duration": 6.0, "backends": 2, "rate": 50.0, "seed": 3}
    assert {fault["kind"] for fault in document["faults"]} == {"kill", "not_serving"}
    assert sum(backend["share"] for backend in document["backends"]) == pytest.approx(1, abs=1e-3)


def test_a_terminal_gets_the_live_view() -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "demo", "--duration", "5"],
        cwd=ROOT,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", "PYTHONUTF8": "1"},
    )
    os.close(child)
    output = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:  # what Linux reports once the other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(parent)

    assert process.wait(30) == 0, output[-2000:]
    assert "● READY".encode() in output
    assert b"no call was lost that should not have been" in output


def test_nothing_is_left_at_the_end() -> None:
    with started("--json", "--duration", "5") as process:
        backends = backends_of(process)
        process.communicate(timeout=30)

    assert not [backend for backend in backends if backend.is_running()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_sums_up_and_leaves_nothing(number: signal.Signals) -> None:
    with started("--plain", "--duration", "30") as process:
        assert process.stdout is not None
        process.stdout.readline()
        backends = backends_of(process)
        time.sleep(1)
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)

    assert process.returncode == 0, rest + errors
    assert "(interrupted)" in rest
    assert errors == ""
    assert not [backend for backend in backends if backend.is_running()]


def test_a_killed_demo_leaves_nothing() -> None:
    with started("--plain", "--duration", "30") as process:
        assert process.stdout is not None
        process.stdout.readline()
        backends = backends_of(process)
        process.kill()
    _, alive = psutil.wait_procs(backends, timeout=10)

    assert not alive
