"""The harness itself: plain does not differ from plain, faults are found and shown, and the same seed draws the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.differential import subject
from tests.differential.compare import ITSELF, judge, minimise, report
from tests.differential.on_purpose import ON_PURPOSE
from tests.differential.program import Program, parse
from tests.differential.running import AioRunner, SyncRunner
from tests.differential.searching import each, search
from tests.differential.subject import PLAIN, Subject

DOCS = Path(__file__).parents[2] / "docs"


class Dropping(grpc.UnaryUnaryClientInterceptor):
    """A fault: metadata does not arrive."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=None), request)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain channels, which as "defaults" lose the metadata of unary calls."""
    real = Subject._make

    def make(self: Subject, tls: bool, dead: bool, arguments: dict[str, Any]) -> Any:
        kind, self._kind = self._kind, PLAIN
        try:
            channel = real(self, tls, dead, arguments)
        finally:
            self._kind = kind
        return grpc.intercept_channel(channel, Dropping()) if kind == "defaults" else channel

    monkeypatch.setattr(Subject, "_make", make)


def drawn(face: str, count: int, number: int) -> list[str]:
    texts: list[str] = []
    each(face, count, number, lambda program: texts.append(program.text))
    return texts


def test_plain_does_not_differ_from_plain(runner: SyncRunner) -> None:
    search(runner, "sync", 40, ours=ITSELF)


def test_plain_does_not_differ_from_plain_on_a_loop(aio_runners: dict[str, AioRunner]) -> None:
    search(aio_runners["asyncio"], "aio", 40, ours=ITSELF)


def test_a_fault_is_found_and_shown_as_a_small_program(server: Any, faulty: None) -> None:
    lines = (
        "channel = open(fresh=True)",
        'm0 = see(lambda: channel.unary_unary(peer("uu", "trail"), request_serializer=joined))',
        'see(lambda: m0([b"a"], timeout=20, metadata=[("k", "v")]))',
        'c1 = see(lambda: m0.future([b"b"], timeout=20))',
        "see(lambda: c1.result())",
    )
    runner = SyncRunner(server)
    program = Program("sync", "defaults", lines)

    found = judge(runner, program).found
    smallest = minimise(runner, program, found)
    shown = report(smallest, judge(runner, smallest).found)
    runner.close()

    assert [line.strip() for line in smallest.lines] == [
        "channel = open()",
        'm0 = see(lambda: channel.unary_unary(peer("uu"), request_serializer=joined))',
        'see(lambda: m0([b"a"], metadata=[("k", "v")]))',
    ]
    assert "plain: " in shown
    assert '[["k", "v"]]' in shown
    assert parse(shown.split("what the server")[0]).lines == smallest.lines


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_the_same_seed_draws_the_same_programs(face: str) -> None:
    programs = drawn(face, 30, 3)

    assert programs == drawn(face, 30, 3)
    assert programs != drawn(face, 30, 4)
    assert len(set(programs)) > 25


def test_a_program_is_read_back() -> None:
    text = drawn("aio", 3, 5)[-1]

    assert parse(text).text == text


def test_every_form_is_drawn() -> None:
    text = "".join(drawn("sync", 60, 6))

    assert all(f"form: {form}\n" in text for form in subject.FAILOVERS)


@pytest.mark.parametrize("entry", ON_PURPOSE, ids=lambda entry: entry.title)
def test_what_is_on_purpose_is_documented(entry: Any) -> None:
    assert f"| {entry.title} |" in (DOCS / "compatibility.md").read_text()
    assert entry.reason


def test_what_is_on_purpose_covers_nothing_else() -> None:
    program = Program("sync", "none", ("see(lambda: m0([b'a'], timeout=20))",))
    wrong: list[tuple[str, str, Callable[..., bool]]] = [
        ("b'0:alice'", "b'0:bob'", ON_PURPOSE[0].covers),
        ("raises RpcError(args=[], code=NOT_FOUND", "raises RpcError(args=[], code=INTERNAL", ON_PURPOSE[0].covers),
    ]

    for plain, ours, _ in wrong:
        assert not any(
            entry.covers(program, "see(lambda: m0([b'a'], timeout=20))", plain, ours) for entry in ON_PURPOSE
        )
