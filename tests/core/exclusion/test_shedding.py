"""Users hear when calls are refused since some backends hang."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from healthlb.core.event_context import EventContext
from healthlb.core.exclusion.shedding import Shedder, silent_share
from healthlb.core.load import CallLimiter
from healthlb.core.messages import SECOND, LoadShedding, Report
from healthlb.core.timers import Timers


def machines(hung: int, kept: int = 0, share: float = 0.1) -> list[Any]:
    """Return four of which so many are out for hanging, and some others are kept in though they hang."""
    out = [SimpleNamespace(is_silent=True, kept_at=0, call_share=share) for _ in range(hung)]
    kept_in = [SimpleNamespace(is_silent=False, kept_at=SECOND, call_share=0.5) for _ in range(kept)]
    well = [SimpleNamespace(is_silent=False, kept_at=0, call_share=0.5) for _ in range(4 - hung - kept)]
    return out + kept_in + well


def test_load_shedding_is_told_when_it_begins_when_it_changes_and_when_it_ends() -> None:
    limiter, told = CallLimiter(None, None, None), []
    shedder = Shedder(limiter, random.Random(1))
    for hung, share, calls in ((1, 0.2, 5), (1, 0.2, 2), (2, 0.3, 1), (0, 0.0, 0), (1, 0.2, 0)):
        context = EventContext(SECOND, Timers())
        shedder.refuse(share, machines(hung), context)
        told += [effect.fact for effect in context.effects if isinstance(effect, Report)]
        assert context.is_changed is bool(context.effects)
        assert shedder.is_on is (share > 0)
        for _ in range(calls):
            limiter.refuse()

    assert told == [
        LoadShedding(SECOND, False, 1, 4, 0.2, 0),
        LoadShedding(SECOND, False, 2, 4, 0.3, 7),
        LoadShedding(SECOND, True, 0, 4, 0.0, 8),
        LoadShedding(SECOND, False, 1, 4, 0.2, 0),
    ]


def test_all_that_hang_are_counted_but_only_those_that_are_out_have_left_calls_to_the_others() -> None:
    limiter, context = CallLimiter(None, None, None), EventContext(SECOND, Timers())
    Shedder(limiter, random.Random(1)).refuse(0.2, machines(2, 2), context)

    assert limiter.shedding is not None
    assert (limiter.shedding.hung, limiter.shedding.total) == (4, 4)
    assert silent_share(machines(2, 2)) == 0.2


def test_a_change_of_the_share_alone_is_published_and_not_told() -> None:
    limiter = CallLimiter(None, None, None)
    shedder = Shedder(limiter, random.Random(1))
    shedder.refuse(0.2, machines(1), EventContext(SECOND, Timers()))
    context = EventContext(SECOND, Timers())
    shedder.refuse(0.1, machines(1), context)

    assert limiter.shedding is not None
    assert limiter.shedding.share == 0.1
    assert context.is_changed
    assert context.effects == []


def test_what_was_refused_earlier_is_not_told_again() -> None:
    limiter, context = CallLimiter(None, None, None), EventContext(SECOND, Timers())
    shedder = Shedder(limiter, random.Random(1))
    for _ in range(2):
        shedder.refuse(0.2, machines(1), context)
        limiter.refuse()
        shedder.refuse(0.0, machines(0), context)

    assert limiter.shed == 2
    assert [effect.fact.calls for effect in context.effects if isinstance(effect, Report)] == [0, 1, 0, 1]
