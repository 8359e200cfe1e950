"""What differs on purpose from plain grpcio, each with its reason.

Every entry stands in `docs/compatibility.md` too, under the same title; a test sees to that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.differential.program import Program

SERVER = "what the server has seen"  # a place where runs may differ
PREVIOUS_ATTEMPTS = ("grpc-previous-rpc-attempts", "healthlb-previous-rpc-attempts")


@dataclass(frozen=True, slots=True)
class OnPurpose:
    """A difference that is meant.

    Attributes:
        title: as in `docs/compatibility.md`.
        reason: why it is better.
        covers: whether a difference is this one; it is given the program, where, plain's and ours.
    """

    title: str
    reason: str
    covers: Callable[[Program, str, str, str], bool]


_SUBCHANNELS = re.compile(r"(\d+ subchannels?|no addresses) for service .*")
_REMEDY = re.compile(r"\. What to do: the call credentials [^']*(?=')")
_ARGS = re.compile(r"""args=\[(?:'.*?'|".*?")\]""")
_DETAILS = re.compile(r"""details=(?:'.*?'|".*?")(?=, initial)""")
_UNSERIALIZED = re.compile(r"request_serializer=(failing|nothing|text|None)")
_ODD_METADATA = re.compile(r"metadata=[^m]")
_UNSENT = re.compile(
    r"INTERNAL|could not be sent|[Ii]nvalid metadata|Metadata key or value is invalid|TypeError|^(False|True|None)$"
    r"|Failed \"execute_batch\""
)
_NOISE = ("Task was destroyed", "AuthMetadataPluginCallback", "never retrieved")
COPY = re.compile(r"(pickled|copied|deepcopied)\(see\.error\)")


def _concerned(program: Program, where: str, texts: str = "") -> set[str]:
    """Return the numbers of the calls that a place, and texts of the server, are about; all where it names none."""
    named = set(re.findall(r"\b[cm](\d)\b", where)) | set(re.findall(r"call=(\d)", texts))
    named |= set(re.findall(r"^(?:callbacks|requests|serializer|deserializer) (\d)", where))
    if "9" in named:  # the name that an interceptor gives the first call's method
        named = (named - {"9"}) | {"0"}
    return named or set(re.findall(r"\bm(\d)\b", " ".join(program.lines)))


def _differing(plain: str, ours: str) -> str:
    """Return the executions that only one of both has, or has more often."""
    was, is_now = (Counter(line.strip() for line in text.split("\n")) for text in (plain, ours))
    return "".join((was - is_now) + (is_now - was))


def _method(program: Program, number: str) -> str:
    """Return the line that makes the multi-callable of a call."""
    return next((line for line in program.lines if line.startswith(f"m{number} =")), "")


def _call(program: Program, number: str) -> str:
    """Return the line that makes a call."""
    return next((line for line in program.lines if re.search(rf"\bm{number}(\.\w+)?\(", line)), "")


def _tells_of_subchannels(program: Program, where: str, plain: str, ours: str) -> bool:
    if not _SUBCHANNELS.search(ours) or _SUBCHANNELS.search(plain):
        return False
    is_details = ".details()" in where and not ours.startswith("raises")
    return is_details or _DETAILS.sub("", plain) == _DETAILS.sub("", ours)


def _says_what_to_do(program: Program, where: str, plain: str, ours: str) -> bool:
    """A remedy follows grpcio's own words, in the details alone."""
    return _REMEDY.search(ours) is not None and _REMEDY.sub("", ours) == plain


def _is_closed(program: Program, where: str, plain: str, ours: str) -> bool:
    """The same exception with another text, or `ChannelClosed`."""
    closed = all("hannel" in text and "closed" in text for text in (plain, ours))
    return closed and ("aio.UsageError" in ours or _ARGS.sub("", plain) == _ARGS.sub("", ours))


def _has_another_text(program: Program, where: str, plain: str, ours: str) -> bool:
    """The same exception, which is not a call's, with another text."""
    if "code=" in plain or "args=" not in plain:
        return False
    if "execute_batch" in plain or "grpc_call_start_batch" in plain:
        return plain.split("(")[0] == ours.split("(")[0]
    given = "incorrect type" in plain or any(
        _ODD_METADATA.search(_call(program, number)) for number in _concerned(program, where)
    )
    return given and _ARGS.sub("", plain) == _ARGS.sub("", ours)


def _is_refused(program: Program, where: str) -> bool:
    """Whether a call that the place is about cannot be sent."""
    return any(
        "request_serializer=" not in _method(program, number)
        or _UNSERIALIZED.search(_method(program, number))
        or _ODD_METADATA.search(_call(program, number))
        for number in _concerned(program, where)
    )


def _would_never_end(program: Program, where: str, plain: str, ours: str) -> bool:
    """Plain does not answer until somebody ends the call, or says that it goes on; ours says how it ended."""
    if program.face == "sync" or not _is_refused(program, where):
        return False
    if where == "stray":
        # Its error, which nobody has looked at; plain's tasks may be destroyed before they have one.
        left = ours.replace("asyncio: ERROR Task exception was never retrieved\nfuture: <Task finished na", "").strip(
            "; "
        )
        return left == plain or (not left and _is_noise(plain))
    if where.startswith("callbacks"):
        return not plain
    if where.startswith("requests"):
        return ours.startswith(plain)
    is_cancelled_by_plain = plain.removeprefix("raises ").startswith(("TimeoutError", "CancelledError"))
    is_open = (".done()" in where and plain == "False") or (".cancel" in where and plain == "True")
    tells_reader_alone = "read(" in where and re.search("(Type|Value)Error\\(", plain) and "code=INTERNAL" in ours
    return (is_cancelled_by_plain or is_open or tells_reader_alone) and _UNSENT.search(ours) is not None


def _tells_of_no_connection(program: Program, where: str, plain: str, ours: str) -> bool:
    """Of a call that ended before it was sent, plain waits for ever for its connection."""
    return ".wait_for_connection()" in where and plain.startswith("raises TimeoutError") and ours.startswith("raises")


def _ends_what_cannot_be_read(program: Program, where: str, plain: str, ours: str) -> bool:
    """Ours runs the callbacks when the reader is told, plain when the server has answered all."""
    unreadable = [
        number
        for number in _concerned(program, where)
        if re.search(r"_stream\(.*response_deserializer=(failing|nothing)", _method(program, number))
    ]
    return program.face == "sync" and bool(unreadable) and where.startswith("callbacks")


def _is_noise(text: str) -> bool:
    return all(any(noise in one for noise in _NOISE) for one in text.split("; "))


def _is_silent(program: Program, where: str, plain: str, ours: str) -> bool:
    return where == "stray" and "; ".join(one for one in plain.split("; ") if not _is_noise(one)) == ours


def _is_tried_again(program: Program, where: str, plain: str, ours: str) -> bool:
    """Of an idempotent call whose failure came behind headers that say nothing, or that nobody asked for."""
    if program.form not in ("idempotent", "hedged"):
        return False
    if where == "stray":
        # What another attempt has answered, and nobody could deserialize.
        where = next(
            (f"m{number}" for number in sorted(_concerned(program, "")) if "failing" in _method(program, number)), ""
        )
    numbers = _concerned(program, where, _differing(plain, ours) if where == SERVER else "")
    steps = [_method(program, number) for number in numbers]
    return bool(steps) and all(_is_uncommitted(line, where) for line in steps)


def _is_uncommitted(method: str, where: str) -> bool:
    """Whether plain has no other attempt where ours has one."""
    if re.search(r'_stream\(peer\(.*"head".*"(fails=\d:|abort=|code=)(UNAVAILABLE|CANCELLED)', method):
        return True
    # Each attempt fails as the first has: but for the server, all is the same.
    return where == SERVER and re.search(r'"code=(UNAVAILABLE|CANCELLED)', method) is not None


def _survives(program: Program, where: str, plain: str, ours: str) -> bool:
    """Ours is copied where plain raises, and logs nothing where plain's copy lacks what its end needs."""
    if where == "stray":
        copies = any(COPY.search(line) for line in program.lines)
        return copies and plain.replace("unraisable AttributeError", "").strip("; ") == ours
    return program.face == "sync" and bool(COPY.search(where)) and "TypeError(" in plain and "RpcError(" in ours


def without_state(plain: str) -> str:
    """Return what plain does, with the `args` that ours has: grpcio's hold its own state of the call."""
    return plain.replace("args=[<object>]", "args=[]")


ON_PURPOSE: tuple[OnPurpose, ...] = (
    OnPurpose(
        "their details",
        "who is out and why is what one asks when no backend can be reached",
        _tells_of_subchannels,
    ),
    OnPurpose(
        "what to do",
        "an error says what to do where that is known",
        _says_what_to_do,
    ),
    OnPurpose(
        "a closed channel",
        "code that catches what the one face or the other raises need not know which it has",
        _is_closed,
    ),
    OnPurpose(
        "texts of errors that are not of calls",
        "the exception is the same; its text comes from another line of grpcio's or from Python",
        _has_another_text,
    ),
    OnPurpose(
        "a call that cannot be sent (asyncio)",
        "it is over, with a status, has run its callbacks and closed its iterator; grpcio's own would never be done, and "
        "whoever asks for its code waits for ever",
        _would_never_end,
    ),
    OnPurpose(
        "`wait_for_connection` of a call that ended before it was sent (asyncio)",
        "who waits for a call that is over is told how it ended",
        _tells_of_no_connection,
    ),
    OnPurpose(
        "a response of a sync stream that cannot be deserialized",
        "nobody reads the rest of that stream, and its server is told so",
        _ends_what_cannot_be_read,
    ),
    OnPurpose(
        "noise in the log",
        "what grpcio logs of its own loose ends is no behaviour to keep",
        _is_silent,
    ),
    OnPurpose(
        "response headers without metadata, or of a stream that nobody has asked for",
        "the former cannot be told from a status that came without headers, the latter were seen by nobody: idempotent "
        "calls are tried again",
        _is_tried_again,
    ),
    OnPurpose(
        "`args` of an error",
        "error trackers record it; see `without_state`",
        lambda program, where, plain, ours: without_state(plain) == ours,
    ),
    OnPurpose(
        "pickling and copying errors",
        "process pools and error trackers do it; grpcio's own errors of the sync face cannot be pickled",
        _survives,
    ),
)


def as_compared(program: Program, executions: tuple[str, ...]) -> list[str]:
    """Return executions without what our attempts add; hedged ones that are alike count once."""
    shown = []
    for text in executions:
        execution = json.loads(text)
        execution["metadata"] = [pair for pair in execution["metadata"] if pair[0] not in PREVIOUS_ATTEMPTS]
        shown.append(json.dumps(execution))
    return sorted(set(shown)) if program.form == "hedged" else sorted(shown)
