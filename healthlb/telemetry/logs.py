"""Facts as log records of the logger `healthlb`."""

from __future__ import annotations

import logging

from healthlb.core.messages import (
    SECOND,
    Addition,
    ChannelStateChange,
    Ejection,
    Fact,
    HealthCheckingUnavailable,
    HeartbeatLoss,
    Overflow,
    Panic,
    Release,
    Removal,
    ResolutionFailure,
    Return,
    StateChange,
    Suppression,
)

_log = logging.getLogger("healthlb")

_LEVELS: dict[type[Fact], int] = {
    StateChange: logging.INFO,
    ChannelStateChange: logging.INFO,
    Addition: logging.DEBUG,
    Removal: logging.DEBUG,
    ResolutionFailure: logging.WARNING,
    # A17 asks for an error: whoever switched health checking on believes that it works.
    HealthCheckingUnavailable: logging.ERROR,
    HeartbeatLoss: logging.WARNING,
    Ejection: logging.WARNING,
    Return: logging.INFO,
    Overflow: logging.WARNING,
    Suppression: logging.WARNING,
    Release: logging.INFO,
    Panic: logging.WARNING,
}


def is_logged(fact: Fact) -> bool:
    """Whether the logger's level lets this fact through."""
    return _log.isEnabledFor(_LEVELS[type(fact)])


def log_fact(fact: Fact) -> None:
    """Log one fact."""
    _log.log(_LEVELS[type(fact)], "%s", describe(fact))


def describe(fact: Fact) -> str:
    """Return one line that says what happened."""
    match fact:
        case StateChange(_, _, address, old, new, reason):
            return f"{address}: {old.name} -> {new.name} ({reason})"
        case ChannelStateChange(_, old, new):
            return f"channel: {old.name} -> {new.name}"
        case Addition(_, _, address):
            return f"{address}: added"
        case Removal(_, _, address):
            return f"{address}: removed, its calls in flight drain"
        case ResolutionFailure(_, error):
            return f"resolver: {error}; the last good list stays"
        case HealthCheckingUnavailable(_, _, address, details):
            return f"{address}: no health service ({details})"
        case HeartbeatLoss(_, _, address, is_excluded):
            return f"{address}: no heartbeat, {'taken out' if is_excluded else 'kept in: too few are left'}"
        case Ejection(_, _, address, cause, duration, times, is_enforced):
            what = f"ejected for {duration / SECOND:.1f} s" if is_enforced else "would be ejected, but is kept in"
            return f"{address}: {what} ({cause}; {times} of late)"
        case Return(_, _, address, cause):
            return f"{address}: no longer ejected ({cause})"
        case Overflow(_, cap, limit, calls):
            return f"channel: calls refused by {cap}={limit:g}: {calls}"
        case Suppression(_, _, address, flaps, _, duration):
            return f"{address}: damped for {duration / SECOND:.1f} s ({flaps} flaps of late)"
        case Release(_, _, address, cause):
            return f"{address}: no longer damped ({cause})"
        case Panic(_, True, healthy, total, picks):
            return f"panic is over: {healthy} of {total} subchannels are healthy; it picked for {picks} calls"
        case Panic(_, _, healthy, total):
            return f"panic: {healthy} of {total} subchannels are healthy, so calls go to all that are connected"
