"""What the programs of both faces have in common: how calls are made, and what the server is told to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

ARITIES = {"uu": "unary_unary", "us": "unary_stream", "su": "stream_unary", "ss": "stream_stream"}
CODES = ("NOT_FOUND", "UNAVAILABLE", "CANCELLED", "INTERNAL", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNKNOWN")

# What the server does in calls that end by themselves. It sleeps after initial metadata, which plain loses at times if
# the status comes at once.
GOING = (
    *((), (), (), ("trail",), ("head", "sleep=20"), ("head", "sleep=20", "trail"), ("sleep=20",), ("raise",)),
    *(("fails=1:UNAVAILABLE",), ("fails=2:UNAVAILABLE",), ("fails=1:NOT_FOUND",), ("fails=1:CANCELLED",)),
    ("head", "sleep=20", "fails=2:UNAVAILABLE"),
)
# Those that take a while.
SLOW = (("sleep=30",), ("sleep=30", "trail"), ("sleep=30", "abort=NOT_FOUND"), ("head", "sleep=30", "code=UNKNOWN"))
GOING_STREAM = (
    *(("n=0",), ("n=3",), ("head", "sleep=20", "n=1", "abort=ABORTED"), ("n=1", "fails=1:UNAVAILABLE")),
    ("n=0", "trail"),
)
# And in calls that are held until the program says so.
HELD = (("hold",), ("hold",), ("head", "hold"), ("hold", "trail"), ("hold", "abort=ABORTED"), ("head", "hold", "raise"))
HELD_STREAM = (("n=1", "hold", "n=1"), ("head", "n=2", "hold"), ("head", "n=1", "hold", "abort=UNAVAILABLE"))

# Those that can be sent, and those that C-core or grpcio refuses.
SENT_METADATA = (
    *('[("k", b"bytes")]', '[("k-bin", b"\\x00\\xff")]', "()", '[("k", "1"), ("k", "2")]', '(("a", "1"),)'),
    *('iter([("k", "v")])', '[("k", "")]', '[("user-agent", "mine")]', '[["k", "v"]]', '[("grpc-k", "v")]'),
    *('[(b"k", "v")]', '[("k", " x ")]', '[("te", "x")]'),
    'grpc.aio.Metadata(("k", "v"), ("k-bin", b"\\x01"))',
)
METADATA = (
    *SENT_METADATA,
    *('[("Upper", "x")]', '[("new\\nline", "x")]', '[("k", "a\\nb")]', '[("k", "\\u00fc")]', '[("k", 3)]', '[("k",)]'),
    *('"text"', "3", '{"k": "v"}', "[None]", '[("", "v")]'),
)
# None that is too far for C-core's clock, which then ends the call at once: ours takes it for no limit.
TIMEOUTS = ("None", "0", "-1", "float('nan')", "1e-9", "'5'", "True", "0.0", "b'1'", "[3]", "1e7")
COMPRESSIONS = (*tuple(f"grpc.Compression.{name}" for name in ("Gzip", "Deflate", "NoCompression")), "'gzip'", "1")
BAD_SERIALIZERS = ("failing", "nothing", "text", "None")
# Requests that are no bytes end the thread that sends a stream's, in plain of the sync face, which then waits for ever.
BAD_SERIALIZERS_OF_STREAMS = ("failing", "nothing")
BAD_DESERIALIZERS = ("failing", "nothing")
TIMEOUT = "20"
# Those that are over before a server could answer.
OVER = ("0", "-1", "float('nan')", "1e-9", "0.0", "-float('inf')")
# Those that are over as soon as nobody can be reached.
RACING = ("0", "1e-9", "0.0")
SECRET = '[("authorization", "secret alice")]'


@dataclass
class Call:
    """What is known of a call while its program is written.

    Attributes:
        number: of its variables.
        arity: "uu", "us", "su" or "ss".
        is_held: the server holds it.
        has_head: the server sends initial metadata before it holds it.
        before: how many responses come before it is held.
        is_over: it has ended, and somebody has waited for that.
        is_there: the variable holds a call.
        writes: its requests are written one by one.
        is_odd: anything may keep it from being executed.
        may_hang: what is asked of it may never be answered.
        is_refused: it may be that it cannot be sent; then ours is over where plain never ends.
        is_late: its deadline is over before the server can answer.
        is_failing: its requests are found wanting before the server can answer.
        is_unreadable: its first response ends it.
        is_calm: the server must read all its requests.
        is_slow: the program does something while it is on its way.
        reader: what all its responses are read by; grpc.aio forbids to read and to iterate.
    """

    number: int
    arity: str
    is_held: bool = False
    has_head: bool = False
    before: int = 0
    is_over: bool = False
    is_there: bool = True
    writes: bool = False
    is_odd: bool = False
    may_hang: bool = False
    is_refused: bool = False
    is_late: bool = False
    is_failing: bool = False
    is_unreadable: bool = False
    is_calm: bool = False
    is_slow: bool = False
    reader: str = "alist"

    @property
    def name(self) -> str:
        """The variable."""
        return f"c{self.number}"


@dataclass
class Writer:
    """Writes a program.

    Attributes:
        face: "sync" or "aio".
        random: where choices come from.
        lines: what is written.
        calls: those that were made.
        is_countable: each call so far is executed once.
        is_released: whatever was held goes on, and nothing will be held any more.
        is_private: the channel is this program's own, so that it may close it.
        is_closed: it was closed.
        is_blind: the server's view is not compared.
        has_dropped: a call that was held was dropped; plain cancels some of those.
        has_raced: a call was ended that may or may not have got to the server before.
        held: how many calls were held.
    """

    face: str
    random: Random
    lines: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    is_countable: bool = True
    is_released: bool = False
    is_private: bool = False
    is_closed: bool = False
    is_blind: bool = False
    has_dropped: bool = False
    has_raced: bool = False
    held: int = 0

    @property
    def is_limited(self) -> bool:
        """Interceptors leave no time to any call."""
        return "Limiting(0.0)" in self.lines[0]

    def is_late(self, timeout: str) -> bool:
        """Whether a call with this timeout is over before a server can answer."""
        return self.is_limited or (timeout in OVER and "Limiting" not in self.lines[0])

    @property
    def is_dead(self) -> bool:
        """Nobody listens."""
        return "dead" in self.lines[0]

    def pick(self, *options: Any) -> Any:
        """Draw one of these."""
        return self.random.choice(options)

    def chance(self, percent: int) -> bool:
        """Draw True so often."""
        return self.random.randrange(100) < percent

    def add(self, *lines: str) -> None:
        """Write lines."""
        self.lines.extend(lines)

    @property
    def over(self) -> int:
        """How many calls are over."""
        return sum(call.is_over for call in self.calls)

    def sync_with_server(self, wait: Any) -> None:
        """Write, with `wait` around each question, that all calls got to where they are held; or leave that to chance."""
        if self.is_countable and not self.has_dropped and not self.has_raced and self.chance(65):
            # Executions that are held have read their requests.
            self.add(wait("started", len(self.calls)), wait("held", self.held))
        else:
            self.has_raced = True
            self.blind()

    def blind(self) -> None:
        """What the server sees depends on time from here on."""
        if not self.is_blind:
            self.is_blind = True
            self.add("see.blind()")


def steps(w: Writer, call: Call, held: bool) -> list[str]:
    """Return what the server does in a call."""
    streams = call.arity.endswith("s")
    if held and not w.is_released:
        chosen = w.pick(*HELD, *(HELD_STREAM if streams else ()))
        call.is_held = True
        w.held += 1
        call.has_head = chosen[0] == "head"
        call.before = sum(int(step[2:]) for step in chosen[: chosen.index("hold")] if step.startswith("n="))
    elif call.is_late or call.is_failing:
        chosen = ("stay",)
    elif call.is_slow:
        chosen = w.pick(*SLOW)
    elif w.chance(25):
        chosen = (f"{w.pick('abort', 'code')}={w.pick(*CODES)}",)
    else:
        chosen = w.pick(*GOING, *(GOING_STREAM if streams else ()))
    if any(step.startswith("fails") for step in chosen) or chosen[:1] in (
        ("abort=UNAVAILABLE",),
        ("code=UNAVAILABLE",),
        ("abort=CANCELLED",),
        ("code=CANCELLED",),
    ):
        w.is_countable = False
    # grpc.aio ends a call in one way or another if its requests are on their way while it is answered.
    may_be_early = call.arity.startswith("s") and not call.is_calm and w.face == "sync"
    if call.is_unreadable:
        # Plain may show trailing metadata that come after such a call has ended, or may not.
        chosen = tuple(step for step in chosen if step != "trail")
    early = ["early"] if may_be_early and w.chance(12) else []
    return [f"call={call.number}", *early, *chosen]


def method(w: Writer, call: Call, held: bool, serializer: str, deserializer: str) -> None:
    """Write the line that makes a multi-callable."""
    parts = ", ".join(f'"{step}"' for step in (call.arity, *steps(w, call, held)))
    path = f"peer({parts})"
    if w.chance(6):
        path += ".encode()"
    arguments = [path]
    if serializer != "None" or w.chance(50):
        # Without one, the request is a list, which cannot be sent.
        arguments.append(f"request_serializer={serializer}")
    if deserializer != "None":
        arguments.append(f"response_deserializer={deserializer}")
    if call.is_late or call.is_failing or (call.is_unreadable and call.arity in ("us", "ss")):
        w.blind()
    w.add(f"m{call.number} = see(lambda: channel.{ARITIES[call.arity]}({', '.join(arguments)}))")


@dataclass
class Oddities:
    """How a call is made: the arguments of the multi-callable and of its call.

    Attributes:
        is_odd: whether anything may keep it from being executed exactly once.
        is_refused: whether it may be that it cannot be sent.
    """

    metadata: str | None = None
    timeout: str = TIMEOUT
    serializer: str = "joined"
    deserializer: str = "None"
    others: list[str] = field(default_factory=list)
    is_odd: bool = False
    is_refused: bool = False


def oddities(w: Writer, number: int, streams: bool) -> Oddities:
    """Draw how a call is made, with one request or a stream of them; half of all have nothing odd."""
    made = Oddities()
    kind = w.pick(*(None,) * 6, "metadata", "metadata", "timeout", "timeout", "serializer", "deserializer", "others")
    if w.is_limited:
        # It would be a race whether they are found wanting first, or the time that is left.
        return made
    if kind is None:
        if w.chance(30):
            made.serializer = w.pick("user", f'see.noting("serializer {number}", user)')
        if w.chance(15):
            made.deserializer = w.pick("text", "bytes.decode", f'see.noting("deserializer {number}", bytes.decode)')
        if w.chance(30):
            made.metadata = f"md{number}"
            w.add(f"md{number} = {w.pick('grpc.aio.Metadata(*', 'list(')}{SECRET})")
        return made
    made.is_odd = True
    made.is_refused = kind == "serializer"
    if kind == "metadata":
        made.metadata = w.pick(*METADATA)
        made.is_refused = made.metadata not in SENT_METADATA
    elif kind == "timeout":
        # In grpc.aio it is a race whether the deadline ends a stream of requests, or their writing does.
        timeouts = [one for one in TIMEOUTS if one not in OVER or not streams or w.face == "sync"]
        if w.is_dead:
            timeouts = [one for one in timeouts if one not in RACING]
        # It would end the thread that serves a plain channel of the sync face.
        made.timeout = w.pick(*timeouts, *(["-float('inf')"] if w.face == "aio" and not streams else []))
    elif kind == "serializer":
        ends = streams and w.face == "sync"
        if ends and w.is_dead:
            return Oddities()  # it would be a race whether they are found wanting first, or the address
        made.serializer = w.pick(*(BAD_SERIALIZERS_OF_STREAMS if ends else BAD_SERIALIZERS))
    elif kind == "deserializer":
        made.deserializer = w.pick(*BAD_DESERIALIZERS)
    else:
        made.others.append(
            w.pick(
                f"compression={w.pick(*COMPRESSIONS)}",
                f"wait_for_ready={w.pick('True', 'False', '1')}",
                f"credentials=credentials({w.pick('Token', 'Token', 'Refusing')}({w.pick('', '')}))",
            )
        )
        made.others = [other.replace("Token()", 'Token("secret alice")') for other in made.others]
        if w.is_dead and made.others[0] != "wait_for_ready=False":
            made.timeout = "0.2"
    return made


def arguments(w: Writer, request: str, keyword: str, made: Oddities) -> str:
    """Return the arguments of a call."""
    parts = [f"{keyword}={request}" if w.chance(15) else request]
    if made.timeout != "None" or w.chance(50):
        parts.append(f"timeout={made.timeout}")
    if made.metadata is not None:
        parts.append(f"metadata={made.metadata}")
    return ", ".join([*parts, *made.others])


def changes(w: Writer, call: Call, made: Oddities, requests: bool) -> None:
    """Write lines that change what a call was given."""
    if requests and w.chance(30):
        w.add(f'r{call.number}[0] = b"bob"')
    if made.metadata == f"md{call.number}" and w.chance(60):
        if "aio.Metadata" in next(line for line in w.lines if line.startswith(f"md{call.number} =")):
            w.add(f'md{call.number}["authorization"] = "secret bob"')
        else:
            w.add(f'md{call.number}[0] = ("authorization", "secret bob")')
    if w.chance(10):
        w.add(f'USER.set("{w.pick("alice", "bob")}")')
