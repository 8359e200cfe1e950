"""Facts as log records of the logger `healthlb`."""

from __future__ import annotations

import logging

from healthlb.control.user_code import log_guarded
from healthlb.core.messages import (
    SECOND,
    Addition,
    Advice,
    BusyBackend,
    ChannelStateChange,
    DroppedFacts,
    Ejection,
    Fact,
    HealthCheckingUnavailable,
    HeartbeatLoss,
    LoadShedding,
    Overflow,
    Panic,
    Release,
    Removal,
    Rescue,
    ResolutionFailure,
    Return,
    StateChange,
    StatusFlood,
    Suppression,
    TooManyAddresses,
    WatchUnavailable,
)
from healthlb.core.remedies import SHEDDING, explained, of_connection

_log = logging.getLogger("healthlb")

_LEVELS: dict[type[Fact], int] = {
    StateChange: logging.INFO,
    ChannelStateChange: logging.INFO,
    Addition: logging.DEBUG,
    Removal: logging.DEBUG,
    Advice: logging.WARNING,
    ResolutionFailure: logging.WARNING,
    # A17 asks for an error: whoever switched health checking on believes that it works.
    HealthCheckingUnavailable: logging.ERROR,
    WatchUnavailable: logging.INFO,
    HeartbeatLoss: logging.WARNING,
    Rescue: logging.WARNING,
    BusyBackend: logging.INFO,
    Ejection: logging.WARNING,
    Return: logging.INFO,
    LoadShedding: logging.WARNING,
    Overflow: logging.WARNING,
    StatusFlood: logging.WARNING,
    TooManyAddresses: logging.WARNING,
    DroppedFacts: logging.WARNING,
    Suppression: logging.WARNING,
    Release: logging.INFO,
    Panic: logging.WARNING,
}


def is_logged(fact: Fact) -> bool:
    """Whether the logger's level lets this fact through."""
    return _log.isEnabledFor(_LEVELS[type(fact)])


def log_fact(fact: Fact) -> None:
    """Log one fact."""
    log_guarded(_LEVELS[type(fact)], describe(fact))


def describe(fact: Fact) -> str:
    """Return one line that says what happened."""
    match fact:
        case StateChange(_, _, address, old, new, reason, changes):
            many = "" if changes == 1 else f"; {changes:,} changes since the last line"
            return f"{address}: {old.name} -> {new.name} ({reason}{many})"
        case ChannelStateChange(_, old, new):
            return f"channel: {old.name} -> {new.name}"
        case Addition(_, _, address):
            return f"{address}: added"
        case Removal(_, _, address):
            return f"{address}: removed, its calls in flight go on"
        case Advice(_, _, address, reason, remedy):
            return explained(f"{address}: {reason}", [remedy])
        case ResolutionFailure(_, error, list_age, failures):
            kept = "there is no list so far" if list_age is None else f"the list of {list_age / SECOND:.0f} s ago stays"
            times = f" ({failures} failures)" if failures > 1 else ""
            return explained(f"resolver: {error}{times}; {kept}", [of_connection(error, is_secure=False)])
        case HealthCheckingUnavailable(_, _, address, details):
            return f"{address}: no health service ({details})"
        case WatchUnavailable(_, _, address, details):
            return f"{address}: no Health/Watch ({details}), so Health/Check is asked at the heartbeat's pace"
        case HeartbeatLoss(_, _, address, is_excluded):
            return f"{address}: no heartbeat, {'taken out' if is_excluded else 'kept in: too few are left'}"
        case BusyBackend(_, _, address, True):
            return f"{address}: no longer busy, it answers heartbeats again"
        case BusyBackend(_, _, address):
            return f"{address}: busy: it answers no heartbeat, but a ping, and stays in"
        case Rescue(_, _, address, calls):
            return f"{address}: hung: calls in flight that were sent elsewhere: {calls}"
        case Ejection(_, _, address, cause, duration, times, is_enforced):
            what = f"ejected for {duration / SECOND:.1f} s" if is_enforced else "would be ejected, but is kept in"
            return f"{address}: {what} ({cause}; {times} of late)"
        case Return(_, _, address, cause):
            return f"{address}: no longer ejected ({cause})"
        case LoadShedding(_, True, calls=calls):
            return f"load shedding is over: calls refused: {calls:,}"
        case LoadShedding(_, _, hung, total, share):
            return f"load shedding: {SHEDDING.format(hung=hung, total=total, share=share)}"
        case Overflow(_, cap, limit, calls):
            return f"channel: calls refused by {cap}={limit:g}: {calls}"
        case DroppedFacts(_, facts):
            return f"channel: listeners are too slow, so facts were dropped: {facts:,}"
        case StatusFlood(_, _, address, statuses):
            return f"{address}: sends statuses faster than they are followed (passed over: {statuses:,})"
        case TooManyAddresses(_, given, used):
            return f"channel: the resolver gives {given:,} addresses, and {used:,} of them are used (see subset=...)"
        case Suppression(_, _, address, flaps, _, duration):
            return f"{address}: damped for {duration / SECOND:.1f} s ({flaps} flaps of late)"
        case Release(_, _, address, cause):
            return f"{address}: no longer damped ({cause})"
        case Panic(_, True, healthy, total, picks):
            return f"panic is over: {healthy} of {total} subchannels are healthy; it picked for {picks} calls"
        case Panic(_, _, healthy, total):
            return f"panic: {healthy} of {total} subchannels are healthy, so calls go to all that are connected"
