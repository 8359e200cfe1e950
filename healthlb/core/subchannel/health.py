"""The health machine of one connection, as a table one can read (gRFC A17).

Theory: a subchannel has a connection, and on a READY connection one `Health/Watch` stream. Each
says something now and then. The table maps where we are (`Phase`) and what was said (`Signal`) to
where we go and what is to be done (`Action`). What is not in the table changes nothing: so a late
word of an ended stream has no effect.

              ┌──────────────── LOST ──────────────────┐
              ▼                                        │
        DISCONNECTED ──CONNECTED──▶ WATCHING ──SERVING──▶ SERVING ──FALLING──▶ FALLING
                                     │  ▲  └──OTHER────▶ UNHEALTHY ─RISING──▶ RISING   (SERVING and OTHER swap these)
                                  ENDED DUE
                                     ▼  │
                                   RETRYING              UNIMPLEMENTED: UNCHECKED until LOST

A Watch that ends while its last status is SERVING is INTERRUPTED, where the end is no word on health: in RENEWING and
REWATCHING calls go on, until the next Watch has said something or the time for that is over.

Where there is no Watch, `Health/Check` is asked again and again: POLLED or WATCHLESS lead to ASKING, and each answer is
a status as those of a Watch are.

A status is SERVING or OTHER where it suffices to change one's mind, and RISING or FALLING where more of its kind must
follow (`healthlb.core.subchannel.health_machine`). Pickers see READY in SERVING, FALLING, RENEWING,
REWATCHING and UNCHECKED only.
"""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """How far the present connection's health is known."""

    __hash__ = object.__hash__  # as ConnectivityState's

    DISCONNECTED = enum.auto()
    WATCHING = enum.auto()
    ASKING = enum.auto()
    SERVING = enum.auto()
    FALLING = enum.auto()
    UNHEALTHY = enum.auto()
    RISING = enum.auto()
    RETRYING = enum.auto()
    RENEWING = enum.auto()
    REWATCHING = enum.auto()
    UNCHECKED = enum.auto()
    UNSUPPORTED = enum.auto()


class Signal(enum.Enum):
    """What has happened: a status, the end of a Watch, a change of the connection, or a timer."""

    __hash__ = object.__hash__  # as ConnectivityState's

    CONNECTED = enum.auto()
    CONNECTED_UNCHECKED = enum.auto()
    POLLED = enum.auto()
    WATCHLESS = enum.auto()
    LOST = enum.auto()
    SERVING = enum.auto()
    OTHER = enum.auto()
    RISING = enum.auto()
    FALLING = enum.auto()
    UNIMPLEMENTED = enum.auto()
    UNSUPPORTED = enum.auto()
    ENDED = enum.auto()
    INTERRUPTED = enum.auto()
    FLOODED = enum.auto()
    NO_RESPONSE = enum.auto()
    DUE = enum.auto()


class Action(enum.Enum):
    """What is to be done."""

    NOTHING = enum.auto()
    START_WATCH = enum.auto()
    STOP_WATCH = enum.auto()
    RETRY_LATER = enum.auto()
    RETRY_SOON = enum.auto()
    STOP_AND_RETRY_LATER = enum.auto()
    STOP_AND_PAUSE = enum.auto()


STOPPING = (Action.STOP_WATCH, Action.STOP_AND_RETRY_LATER, Action.STOP_AND_PAUSE)
STREAMING = (
    Phase.WATCHING,
    Phase.ASKING,
    Phase.SERVING,
    Phase.FALLING,
    Phase.UNHEALTHY,
    Phase.RISING,
    Phase.REWATCHING,
)

TABLE: dict[tuple[Phase, Signal], tuple[Phase, Action]] = {
    # A17: the Watch starts once the connection is READY, on that connection.
    (Phase.DISCONNECTED, Signal.CONNECTED): (Phase.WATCHING, Action.START_WATCH),
    (Phase.DISCONNECTED, Signal.CONNECTED_UNCHECKED): (Phase.UNCHECKED, Action.NOTHING),
    # Ours: `HealthCheck.watch=False` asks Check instead; so does UNIMPLEMENTED with `on_unimplemented="check"`.
    (Phase.DISCONNECTED, Signal.POLLED): (Phase.ASKING, Action.NOTHING),
    **{(phase, Signal.WATCHLESS): (Phase.ASKING, Action.NOTHING) for phase in STREAMING},
    # A17: SERVING is healthy, every other number is not; the stream stays open either way.
    **{(phase, Signal.SERVING): (Phase.SERVING, Action.NOTHING) for phase in STREAMING},
    **{(phase, Signal.OTHER): (Phase.UNHEALTHY, Action.NOTHING) for phase in STREAMING},
    # Envoy: one status is not enough where `rise` or `fall` ask for more; until then all stays as it is.
    (Phase.SERVING, Signal.FALLING): (Phase.FALLING, Action.NOTHING),
    (Phase.REWATCHING, Signal.FALLING): (Phase.FALLING, Action.NOTHING),
    (Phase.UNHEALTHY, Signal.RISING): (Phase.RISING, Action.NOTHING),
    (Phase.WATCHING, Signal.RISING): (Phase.RISING, Action.NOTHING),
    (Phase.ASKING, Signal.RISING): (Phase.RISING, Action.NOTHING),
    # A17: UNIMPLEMENTED switches health checking off for this connection.
    **{(phase, Signal.UNIMPLEMENTED): (Phase.UNCHECKED, Action.NOTHING) for phase in STREAMING},
    **{(phase, Signal.UNSUPPORTED): (Phase.UNSUPPORTED, Action.NOTHING) for phase in STREAMING},
    # A17: any other end, OK included, is unhealthy until a new stream says SERVING.
    **{(phase, Signal.ENDED): (Phase.RETRYING, Action.RETRY_LATER) for phase in STREAMING},
    # Ours: while the connection stands, an end that says nothing of health leaves a SERVING subchannel in, for a while.
    (Phase.SERVING, Signal.INTERRUPTED): (Phase.RENEWING, Action.RETRY_SOON),
    (Phase.REWATCHING, Signal.INTERRUPTED): (Phase.RENEWING, Action.RETRY_SOON),
    (Phase.RENEWING, Signal.DUE): (Phase.REWATCHING, Action.START_WATCH),
    (Phase.RENEWING, Signal.NO_RESPONSE): (Phase.RETRYING, Action.NOTHING),
    (Phase.REWATCHING, Signal.NO_RESPONSE): (Phase.RETRYING, Action.STOP_AND_RETRY_LATER),
    # Ours: a Watch that says more than can be read pauses; its last status stands meanwhile.
    (Phase.SERVING, Signal.FLOODED): (Phase.RENEWING, Action.STOP_AND_PAUSE),
    (Phase.FALLING, Signal.FLOODED): (Phase.RENEWING, Action.STOP_AND_PAUSE),
    (Phase.UNHEALTHY, Signal.FLOODED): (Phase.RETRYING, Action.STOP_AND_PAUSE),
    (Phase.RISING, Signal.FLOODED): (Phase.RETRYING, Action.STOP_AND_PAUSE),
    # Ours: A17 would wait for the first status for ever.
    (Phase.WATCHING, Signal.NO_RESPONSE): (Phase.RETRYING, Action.STOP_AND_RETRY_LATER),
    (Phase.RETRYING, Signal.DUE): (Phase.WATCHING, Action.START_WATCH),
    # A17: leaving READY for any reason forgets the health and cancels the stream.
    **{(phase, Signal.LOST): (Phase.DISCONNECTED, Action.STOP_WATCH) for phase in STREAMING},
    (Phase.RETRYING, Signal.LOST): (Phase.DISCONNECTED, Action.NOTHING),
    (Phase.RENEWING, Signal.LOST): (Phase.DISCONNECTED, Action.NOTHING),
    (Phase.UNCHECKED, Signal.LOST): (Phase.DISCONNECTED, Action.NOTHING),
    (Phase.UNSUPPORTED, Signal.LOST): (Phase.DISCONNECTED, Action.NOTHING),
}

HEALTHY = frozenset({Phase.SERVING, Phase.FALLING, Phase.RENEWING, Phase.REWATCHING, Phase.UNCHECKED})
UNHEALTHY = frozenset({Phase.UNHEALTHY, Phase.RISING, Phase.RETRYING, Phase.UNSUPPORTED})
# A Watch may end without taking the subchannel out.
RENEWABLE = frozenset({Phase.SERVING, Phase.REWATCHING})
# The status that was said last has yet to be confirmed.
PENDING = frozenset({Phase.FALLING, Phase.RISING})
