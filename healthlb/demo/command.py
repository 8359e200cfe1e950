"""The command `healthlb demo`: options in, exit code out."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType

import click
from rich.console import Console

from healthlb.cli.checked import SEED, Number, plain_option
from healthlb.demo import live, report
from healthlb.demo.demo import Settings, run_demo
from healthlb.demo.fleet import BackendError
from healthlb.demo.frame import View
from healthlb.demo.plain import PlainView, SilentView

_MOST_CALLS = 1_000_000
# A log has no width of its own, and must not lose the ends of addresses.
_PLAIN_WIDTH = 100


@click.command()
@click.option("--duration", type=Number(5, 86_400), default=20.0, show_default=True, help="Seconds of traffic.")
@click.option("--backends", type=click.IntRange(2, 20), default=3, show_default=True, help="Server processes.")
@click.option("--rate", type=Number(1, 2000), default=200.0, show_default=True, help="Calls per second.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Of the schedule of faults.")
@plain_option
@click.option("--json", "is_json", is_flag=True, help="Nothing but one JSON document at the end.")
def demo(duration: float, backends: int, rate: float, seed: int, plain: bool, is_json: bool) -> None:
    """Watch healthlb keep calls away from backends that go bad.

    Starts local gRPC servers, calls them through a HealthAwareChannel, and flips, kills and
    restarts one after the other; from 40 s on, one is also frozen. Exits with 1 if a call was lost
    that should not have been.
    """
    if not duration * rate <= _MOST_CALLS:
        raise click.UsageError(f"--duration times --rate must be at most {_MOST_CALLS:,} calls")
    settings = Settings(duration=duration, backends=backends, rate=rate, seed=seed)
    console = Console(highlight=False)
    is_plain = plain or not live.is_possible(console)
    if is_plain:
        console = Console(highlight=False, force_terminal=False, color_system=None, width=_PLAIN_WIDTH)
    # The demo shows what healthlb's log says; its lines would only cut through the picture.
    logging.getLogger("healthlb").addHandler(logging.NullHandler())
    try:
        with _stopping_on_signals() as stop, closing(_view(console, is_plain, is_json)) as view:
            summary = run_demo(settings, view, stop)
    except (BackendError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
    if is_json:
        click.echo(report.to_json(summary, settings))
    else:
        report.show(summary, console, is_plain)
    sys.exit(0 if summary.is_fine else 1)


def _view(console: Console, is_plain: bool, is_json: bool) -> View:
    if is_json:
        return SilentView()
    return PlainView(click.echo) if is_plain else live.LiveView(console)


@contextmanager
def _stopping_on_signals() -> Iterator[threading.Event]:
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
