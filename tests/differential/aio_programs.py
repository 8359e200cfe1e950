"""Random programs of the asyncio face."""

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
    *("await open()",) * 8,
    *("await open(fresh=True)",) * 6,
    *("await open(tls=True)", "await open(fresh=True, tls=True)", "await open(dead=True)"),
    "await open(fresh=True, compression=grpc.Compression.Gzip)",
)
INTERCEPTORS = (
    *("AsyncPairs()", 'AsyncRenaming(b"call=0", b"call=9")', "AsyncLimiting(0.0)", "AsyncLimiting(20.0)"),
    *('AsyncTelling(see, "a")', "AsyncRefused()", "AsyncOwn()", "AsyncTwice()", "AsyncIntercepting()"),
)
REQUESTS = (*('[[b"a"], [b"b"]]', '([b"a"], [b"b"])', "Countdown(3)", "()", "iter(())", "AsyncCountdown(3)"),)
BAD_REQUESTS = ("raising(1)", "araising(1)", "araising(0)", "3")

STATES = ("{c}.done()", "{c}.cancelled()", "remaining({c})")
ENDS = ("{c}.code()", "{c}.details()", "{c}.trailing_metadata()")
ASKS = (*ENDS, "{c}.initial_metadata()", "{c}.wait_for_connection()")
AWAITS = (
    *("{c}", "{c}", "awaited({c})", "in_group({c})", "in_group({c}, {c})", "asyncio.wait_for({c}, 3)"),
    *("asyncio.shield(awaited({c}))", "asyncio.gather({c}, {c})"),
)
READS = {
    "alist": ("alist({c})", "asome({c}, 1)"),
    "aread": ("aread({c})", "{c}.read()", "asyncio.wait_for({c}.read(), 3)"),
}
COPIES = ("pickled(see.error)", "copied(see.error)", "deepcopied(see.error)")


@st.composite
def aio_programs(draw: Any) -> Program:
    """Draw a program."""
    # A true Random, since hypothesis would rather vary its last program than draw another.
    w = Writer("aio", draw(st.randoms(use_true_random=True)))
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
    return Program("aio", w.pick(*FORMS), tuple(w.lines))


def _channel(w: Writer) -> None:
    if w.chance(15):
        chosen = ", ".join(w.pick(*INTERCEPTORS) for _ in range(w.pick(1, 1, 2)))
        w.is_countable = not any(name in chosen for name in ("Refused", "Twice", "Limiting"))
        w.add(f"channel = await open(fresh={w.pick(True, False)}, interceptors=for_all({chosen}))")
        w.is_private = True
        return
    chosen = w.pick(*CHANNELS)
    w.is_private = "fresh" in chosen or "dead" in chosen
    w.is_countable = "dead" not in chosen
    w.add(f"channel = {chosen}")


def _call(w: Writer) -> None:
    # In grpc.aio it is a race whether the channel ends a stream of requests, or their writing does.
    call = Call(len(w.calls), w.pick("uu", "uu", "us", *(() if w.is_dead or w.is_limited else ("su", "ss"))))
    made = oddities(w, call.number, call.arity.startswith("s"))
    call.is_late = w.is_late(made.timeout)
    call.is_unreadable = made.deserializer in BAD_DESERIALIZERS
    requests, keyword = _requests(w, call, made)
    if made.serializer in BAD_SERIALIZERS and call.arity.startswith("s") and "fresh=True" in w.lines[0]:
        # Plain serializes the first request when it is connected, which takes a while on a busy machine.
        w.add("await channel.channel_ready()")
    call.reader = w.pick("alist", "alist", "aread")
    call.is_odd = made.is_odd or w.is_closed
    if call.is_odd:
        w.is_countable = False
    call.is_refused = made.is_refused
    call.may_hang = call.is_odd or "interceptors" in w.lines[0]
    may_be_held = not (call.is_calm or call.is_late or call.is_failing) and w.is_countable
    method(w, call, may_be_held and w.chance(50), made.serializer, made.deserializer)
    given = arguments(w, requests, keyword, made) if requests else arguments(w, "None", keyword, made)
    step = f"m{call.number}({given})"
    if w.chance(12):
        w.add(f'{call.name} = await see.wait(lambda: as_user("alice", lambda: {step}))')
    else:
        w.add(f"{call.name} = see(lambda: {step})")
    w.calls.append(call)
    if w.chance(35):
        _callback(w, call, "a")
    if w.chance(20):
        w.add("await asyncio.sleep(0)")
    changes(w, call, made, call.arity.startswith("u"))
    if not call.is_held and not call.is_refused and w.chance(10):
        _drop(w, call)


def _requests(w: Writer, call: Call, made: Any) -> tuple[str, str]:
    if call.arity.startswith("u"):
        w.add(f'r{call.number} = [b"alice"]')
        return f"r{call.number}", "request"
    lane = f'"requests {call.number}"'
    if w.chance(35) and not (made.is_refused or call.is_unreadable):
        call.writes = True
        return "", "request_iterator"
    call.is_failing = made.serializer in BAD_SERIALIZERS
    if call.is_failing or call.is_unreadable:
        return w.pick("aslow(2)", "Countdown(3)", '[[b"a"], [b"b"]]'), "request_iterator"
    own = (f"generator(see, {lane}, 2)", f"agenerator(see, {lane}, 2)", f"agenerator(see, {lane}, 2)")
    others = (*REQUESTS, "aslow(2)", f"timed(see, {lane})", f"asleep(see, {lane})")
    chosen = w.pick(*own, *own, *own, *others, *others, *BAD_REQUESTS)
    call.is_calm = "see" in chosen
    call.is_failing |= chosen in BAD_REQUESTS
    made.is_odd |= call.is_failing
    if chosen.startswith("asleep"):
        made.is_odd = call.is_failing = True
        made.timeout = "0.4"  # enough to be connected
    return chosen, "request_iterator"


def _wait(w: Writer, call: Call, step: str) -> None:
    """Write a step that is awaited; a call that may never have begun is not awaited for ever."""
    step = step.format(c=call.name)
    bounded = (
        f"asyncio.wait_for({step}, {0.3 if call.is_refused else 2})"
        if call.may_hang and "wait_for(" not in step
        else step
    )
    w.add(f"await see.wait(lambda: {bounded})")


def _callback(w: Writer, call: Call, name: str) -> None:
    for _ in range(w.pick(1, 1, 2)):
        w.add(f'see(lambda: {call.name}.add_done_callback(see.callback("{name}", "{call.number}")))')
        name += "'"


def _act(w: Writer, call: Call) -> None:
    """Write something that is done to a call on its way."""
    if not call.is_there or call.is_over:
        _ask(w, call)
    elif call.is_refused:
        _finish(w, call)
    elif call.writes and w.chance(50):
        _write(w, call)
    elif call.is_held:
        _act_on_held(w, call)
    else:
        _finish(w, call) if w.chance(50) else _callback(w, call, "b")


def _write(w: Writer, call: Call) -> None:
    if call.is_over or w.chance(67):
        _wait(w, call, '{c}.write([b"w"])')
    else:
        _wait(w, call, "{c}.done_writing()")
        # Whether the call ends before another write is a race.
        call.writes = False


def _act_on_held(w: Writer, call: Call) -> None:
    c = call.name
    kind = w.pick("state", "state", "wait", "read", "head", "cancel", "cancel", "drop", "callback", "finish", "task")
    if kind == "state":
        w.add(f"see(lambda: {w.pick(*STATES).format(c=c)})")
    elif kind == "wait" and call.arity in ("uu", "su"):
        w.add(f"await see.wait(lambda: asyncio.wait_for(asyncio.shield(awaited({c})), 0.02))")
    elif kind == "read" and call.before and not call.writes:
        call.before -= 1
        w.add(f"await see.wait(lambda: {READS[call.reader][1].format(c=c)})")
    elif kind == "head" and call.has_head and call.arity in ("us", "ss"):
        w.add(f"await see.wait(lambda: {c}.initial_metadata())")
    elif kind == "cancel":
        _cancel(w, call, f"see(lambda: {c}.cancel())")
    elif kind == "task":
        _cancel_by_task(w, call)
    elif kind == "drop":
        _drop(w, call)
    elif kind == "callback":
        _callback(w, call, "c")
    elif kind == "finish":
        _finish(w, call)


def _cancel_by_task(w: Writer, call: Call) -> None:
    c = call.name
    if call.arity in ("uu", "su"):
        what = w.pick("{c}", "awaited({c})", "in_group({c})").format(c=c)
    elif call.before:
        return
    else:
        what = w.pick(*READS[call.reader][:2]).format(c=c)
    how = w.pick(f"asyncio.wait_for({what}, 0.05)", f"cancelled({what}, {w.pick(1, 3, 10)})")
    _cancel(w, call, f"await see.wait(lambda: {how})")


def _cancel(w: Writer, call: Call, line: str) -> None:
    w.sync_with_server("await asyncio.to_thread(peer.{}, {})".format)
    w.add(line)
    call.is_over, call.is_held = True, False
    if not w.is_blind:
        w.add(f"await see.wait(lambda: asyncio.to_thread(peer.over, {w.over}))")


def _drop(w: Writer, call: Call) -> None:
    if not call.is_held:
        if not w.is_countable or call.arity != "uu":
            w.blind()
        w.add(f"{call.name} = see.error = None", "collect()")
        call.is_over, call.is_there = True, False
        return
    w.sync_with_server("await asyncio.to_thread(peer.{}, {})".format)
    w.add(f"{call.name} = see.error = None", "collect()")
    call.is_over, call.is_held, call.is_there, w.has_dropped = True, False, False, True
    if not w.is_blind:
        w.add(f"await see.wait(lambda: asyncio.to_thread(peer.over, {w.over}, 0.2))")


def _finish(w: Writer, call: Call) -> None:
    """Write something that waits for the end of a call."""
    if call.is_over or not call.is_there:
        return
    if call.is_held:
        w.add("await asyncio.to_thread(peer.release)")
        w.is_released = True
        for other in w.calls:
            other.is_held = False
    if call.writes:
        _wait(w, call, "{c}.done_writing()")
    streams = call.arity in ("us", "ss")
    if call.is_refused:
        _wait(w, call, f"{call.reader}({{c}})" if streams else w.pick(*AWAITS))
        call.is_over, call.is_there = True, False
        return
    if streams:
        if w.chance(5):
            # Plain refuses the other means from now on, so that the end is not read.
            call.may_hang = True
            call.reader = w.pick("alist", "aread")
        if w.chance(25):
            _wait(w, call, w.pick(*READS[call.reader]))
        for _ in range(w.pick(1, 1, 2)):
            _wait(w, call, f"{call.reader}({{c}})")
    else:
        _wait(w, call, w.pick(*AWAITS) if w.chance(75) else w.pick(*ENDS))
    _wait(w, call, w.pick(*ASKS) if streams or w.chance(60) else "{c}")
    call.is_over = True


def _ask(w: Writer, call: Call) -> None:
    """Write a question to a call that is over."""
    if w.chance(25):
        w.add(f"see(lambda: {w.pick(*COPIES)})")
    elif call.is_there and call.is_over:
        c = call.name
        kind = w.pick("callback", "cancel", "state", "state", "end", "end", "await", "write", "iterate")
        if kind == "callback":
            _callback(w, call, "d")
        elif kind == "cancel":
            w.add(f"see(lambda: {c}.cancel())")
        elif kind == "state":
            w.add(f"see(lambda: {w.pick(*STATES).format(c=c)})")
        elif kind == "end":
            _wait(w, call, w.pick(*ASKS))
        elif kind == "await" and call.arity in ("uu", "su"):
            _wait(w, call, w.pick(*AWAITS))
        elif kind == "write" and call.writes:
            _write(w, call)
        elif kind == "iterate" and call.arity in ("us", "ss"):
            _wait(w, call, w.pick(*READS[call.reader]))


def _close(w: Writer) -> None:
    if not all(call.is_over or call.is_held for call in w.calls):
        return  # It is a race whether they end before.
    w.add(f"await see.wait(lambda: channel.close({w.pick('', '0.05')}))")
    w.is_closed = True
    if any(not call.is_over for call in w.calls):
        w.blind()
    for call in w.calls:
        call.is_held = False
