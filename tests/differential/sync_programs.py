"""Random programs of the sync face."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.differential.grammar import (
    BAD_DESERIALIZERS,
    BAD_SERIALIZERS,
    Call,
    Writer,
    arguments,
    changes,
    method,
    oddities,
)
from tests.differential.program import FORMS, Program

CHANNELS = (
    *("open()",) * 8,
    *("open(fresh=True)",) * 6,
    *("open(tls=True)", "open(fresh=True, tls=True)", "open(dead=True)"),
    *("open(fresh=True, options=[SINGLE])", "open(fresh=True, compression=grpc.Compression.Gzip)"),
)
INTERCEPTORS = (
    *("Pairs()", 'Renaming("call=0", "call=9")', "Limiting(0.0)", "Limiting(20.0)", 'Telling(see, "a")', "Refused()"),
    *("Twice()", "Intercepting()"),
)
GOOD_REQUESTS = ('iter([[b"a"], [b"b"]])', "slow(2)", "Countdown(3)", "iter(())")
BAD_REQUESTS = ('[[b"a"]]', '([b"a"], [b"b"])', "raising(1)", "raising(0)", "()", "None", "3")

# Questions that a call answers at once.
STATES = ("{c}.done()", "{c}.running()", "{c}.cancelled()", "{c}.is_active()", "remaining({c})")
# Questions that wait until a call is over.
ENDS = (
    *("{c}.code()", "{c}.details()", "{c}.trailing_metadata()", "{c}.initial_metadata()", "{c}.result(5)"),
    *("{c}.result()", "{c}.exception(5)", "{c}.exception()", "{c}.traceback() is None", "{c}.result(timeout=5)"),
)
READS = ("next({c})", "some({c}, 1)", "iter({c}) is {c}")
COPIES = ("pickled(see.error)", "copied(see.error)", "deepcopied(see.error)")


@st.composite
def sync_programs(draw: Any) -> Program:
    """Draw a program."""
    # A true Random, since hypothesis would rather vary its last program than draw another.
    w = Writer("sync", draw(st.randoms(use_true_random=True)))
    _channel(w)
    for _ in range(w.pick(1, 1, 2, 2, 3)):
        _call(w)
        for _ in range(w.pick(0, 1, 2, 3, 4)):
            _act(w, w.pick(*w.calls))
        if w.is_private and w.chance(8):
            _close(w)
    for call in w.calls:
        _finish(w, call)
    for _ in range(w.pick(0, 1, 2, 3)):
        _ask(w, w.pick(*w.calls))
    return Program("sync", w.pick(*FORMS), tuple(w.lines))


def _channel(w: Writer) -> None:
    if w.chance(15):
        chosen = ", ".join(w.pick(*INTERCEPTORS) for _ in range(w.pick(1, 1, 2)))
        w.is_countable = not any(name in chosen for name in ("Refused", "Twice", "Limiting"))
        w.add(f"channel = open(fresh={w.pick(True, False)}, interceptors=[{chosen}])")
        w.is_private = True
        return
    chosen = w.pick(*CHANNELS)
    w.is_private = "fresh" in chosen or "dead" in chosen
    w.is_countable = "dead" not in chosen
    w.add(f"channel = {chosen}")


def _call(w: Writer) -> None:
    call = Call(len(w.calls), w.pick("uu", "uu", "us", "su", "ss"))
    streams = call.arity.startswith("s")
    made = oddities(w, call.number, streams)
    call.is_late = w.is_late(made.timeout)
    call.is_unreadable = made.deserializer in BAD_DESERIALIZERS
    if streams:
        own = "slow(2)" if call.is_late or call.is_unreadable else f'generator(see, "requests {call.number}", 2)'
        # It is a race whether they are found wanting first, or something else is.
        has_credentials = any("credentials" in other for other in made.others)
        is_race = w.is_dead or call.is_late or made.is_refused or has_credentials
        bad = () if is_race else BAD_REQUESTS
        request = w.pick(own, own, own, *GOOD_REQUESTS, *GOOD_REQUESTS, *bad)
        if made.serializer in BAD_SERIALIZERS:
            request = "Countdown(3)"
        call.is_failing = request in BAD_REQUESTS or made.serializer in BAD_SERIALIZERS
        made.is_odd |= call.is_failing
    else:
        request = f"r{call.number}"
        w.add(f'{request} = [b"alice"]')
    form = w.pick("", ".with_call", ".future", ".future") if call.arity in ("uu", "su") else ""
    blocks = call.arity in ("uu", "su") and form != ".future"
    call.is_odd = made.is_odd or w.is_closed
    if call.is_odd:
        w.is_countable = False
    call.is_calm |= "generator" in request
    call.is_slow = not (blocks or w.is_dead or call.is_failing or call.is_late) and w.chance(50)
    may_be_held = not (blocks or call.is_calm or call.is_late or call.is_failing) and w.is_countable
    method(w, call, may_be_held and w.chance(50), made.serializer, made.deserializer)
    if form == ".future" and streams and (made.metadata or "").startswith("iter("):
        made.metadata = "()"  # plain refuses an iterator here, but in no other call
    given = arguments(w, request, "request_iterator" if streams else "request", made)
    step = f"m{call.number}{form}({given})"
    if blocks:
        w.add(f"see{w.pick('', '', '', '.thread')}(lambda: {step})")
        call.is_there, call.is_over, call.is_held = False, True, False
        w.calls.append(call)
        return
    w.add(f"{call.name} = see{w.pick('', '', '', '', '.thread')}(lambda: {step})")
    w.calls.append(call)
    if (call.is_slow or call.is_held) and not call.is_odd and w.chance(60):
        _callback(w, call, "a")
    changes(w, call, made, not streams)


def _callback(w: Writer, call: Call, name: str) -> None:
    kinds = ["add_done_callback"]
    # Of a call that ended here, its status comes later, and until then `add_callback` takes another one.
    if call.arity in ("us", "ss") and not (call.is_failing or call.is_unreadable):
        kinds.append("add_callback")
    # Those that are added to a call that is over are called at once, those before by another thread.
    lane = f"{call.number} over" if call.is_over else f"{call.number}"
    for _ in range(w.pick(1, 1, 2)):
        w.add(f'see(lambda: {call.name}.{w.pick(*kinds)}(see.callback("{name}", "{lane}")))')
        name += "'"


def _act(w: Writer, call: Call) -> None:
    """Write something that is done to a call on its way."""
    if not call.is_there or call.is_over:
        _ask(w, call)
    elif call.is_held:
        _act_on_held(w, call)
    else:
        _callback(w, call, "b") if call.is_slow and not call.is_odd and w.chance(50) else _finish(w, call)


def _act_on_held(w: Writer, call: Call) -> None:
    c = call.name
    kind = w.pick("state", "state", "wait", "read", "head", "cancel", "cancel", "drop", "callback", "finish")
    if kind == "state":
        w.add(f"see(lambda: {w.pick(*STATES).format(c=c)})")
    elif kind == "wait":
        if call.arity in ("uu", "su"):
            ask = w.pick("result(0.02)", "exception(0.02)", "traceback(0.02)", "result(timeout=0)", "exception(0)")
            w.add(f"see(lambda: {c}.{ask})")
    elif kind == "read":
        if call.before:
            call.before -= 1
            w.add(f"see(lambda: {w.pick(*READS[:2]).format(c=c)})")
    elif kind == "head":
        if call.has_head and call.arity in ("us", "ss"):
            w.add(f"see(lambda: {c}.initial_metadata())")
    elif kind == "cancel":
        w.sync_with_server("peer.{}({})".format)
        w.add(f"see(lambda: {c}.cancel())")
        call.is_over, call.is_held = True, False
        _see_it_over(w)
    elif kind == "drop":
        w.sync_with_server("peer.{}({})".format)
        w.add(f"{c} = see.error = None", "collect()")
        call.is_over, call.is_held, call.is_there, w.has_dropped = True, False, False, True
        _see_it_over(w, ", 0.2")
    elif kind == "callback":
        _callback(w, call, "c")
    else:
        _finish(w, call)


def _see_it_over(w: Writer, patience: str = "") -> None:
    if not w.is_blind:
        w.add(f"see(lambda: peer.over({w.over}{patience}))")


def _finish(w: Writer, call: Call) -> None:
    """Write something that waits for the end of a call."""
    if call.is_over or not call.is_there:
        return
    if call.is_held:
        w.add("peer.release()")
        w.is_released = True
        for other in w.calls:
            other.is_held = False
    c = call.name
    streams = call.arity in ("us", "ss")
    if streams and w.chance(25):
        w.add(f"see(lambda: {w.pick(*READS).format(c=c)})")
    if streams:
        # What waits for the end of a stream whose responses nobody reads waits for its deadline.
        w.add(f"see(lambda: list({c}))")
    w.add(f"see(lambda: {w.pick(*ENDS).format(c=c)})")
    call.is_over = True


def _ask(w: Writer, call: Call) -> None:
    """Write a question to a call that is over."""
    if w.chance(25):
        w.add(f"see(lambda: {w.pick(*COPIES)})")
    elif call.is_there:
        if not call.is_over:
            return
        c = call.name
        if w.chance(15):
            _callback(w, call, "d")
        elif w.chance(15):
            w.add(f"see(lambda: {c}.cancel())")
        else:
            w.add(f"see(lambda: {w.pick(*STATES, *ENDS, *READS[:1]).format(c=c)})")


def _close(w: Writer) -> None:
    if not all(call.is_over or call.is_held for call in w.calls):
        return  # It is a race whether they end before.
    w.add("see(lambda: channel.close())")
    w.is_closed = True
    if any(not call.is_over for call in w.calls):
        w.blind()
    for call in w.calls:
        call.is_held = False
