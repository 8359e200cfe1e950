"""Whether ours does what plain does, and the smallest program that shows that it does not."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.differential.on_purpose import COPY, ON_PURPOSE, SERVER, as_compared, without_state
from tests.differential.program import Observation, Program
from tests.differential.running import Pace, Runner
from tests.differential.subject import reference

# Once ours was seen to differ, both are run again, plain each time in one of these ways. Plain must always do the same,
# and ours must always differ: what time decides is no difference.
CONFIRMATIONS = (Pace.USUAL, Pace.SLOW_SERVER, Pace.BUSY_CLIENT, Pace.USUAL)
ITSELF = "itself"  # plain is compared with plain
MINIMISING = 30.0  # seconds that looking for a smaller program may take


@dataclass(frozen=True, slots=True)
class Difference:
    """Where ours differs from plain.

    Attributes:
        where: the line, or the name of the lane.
        plain: what plain does.
        ours: what ours does.
    """

    where: str
    plain: str
    ours: str

    @property
    def kind(self) -> str:
        """What distinguishes it from differences of other kinds: what was done, and which parts differ."""
        if self.where == SERVER:
            was, is_now = (Counter(re.findall(r'"path": "([^"]*)"', text)) for text in (self.plain, self.ours))
            return f"{SERVER}: more {sorted(is_now - was)}, fewer {sorted(was - is_now)}"
        step = " ".join(re.findall(r"\.\w+|\b(?!see|lambda)[a-z_]{4,}\(", self.where)[-2:]) or self.where
        was, is_now = (re.split(r", (?=\w+=)|[(;]", text) for text in (self.plain, self.ours))
        parts = {part.split("=")[0] for part in set(was) ^ set(is_now) if "=" in part and was[0] == is_now[0]}
        return re.sub(r"\d+", "#", f"{step}: {was[0][:40]}, {is_now[0][:40]}, {sorted(parts)}")

    def __str__(self) -> str:
        return f"{self.where}\n    plain: {self.plain}\n    ours:  {self.ours}"


def differences(program: Program, plain: Observation, ours: Observation) -> list[Difference]:
    """Return all but those that are on purpose, and copies of errors that were raised, or not, on purpose."""
    found = []
    is_other_error = False
    for one in (*_steps(program, plain, ours), *_lanes(plain, ours), *_server(program, plain, ours)):
        if _is_on_purpose(program, one):
            is_other_error |= "raises" in one.plain + one.ours
        elif not (is_other_error and COPY.search(one.where)):
            found.append(one)
    return found


def _is_on_purpose(program: Program, one: Difference) -> bool:
    plain = without_state(one.plain)
    return any(entry.covers(program, one.where, plain, one.ours) for entry in ON_PURPOSE)


def _steps(program: Program, plain: Observation, ours: Observation) -> Iterator[Difference]:
    for (line, was), (other, is_now) in zip(plain.steps, ours.steps, strict=False):
        if (line, was) != (other, is_now):
            yield Difference(program.line(line), was, is_now if line == other else f"is at: {program.line(other)}")
    for line, was in plain.steps[len(ours.steps) :]:
        yield Difference(program.line(line), was, "did not get there")


def _lanes(plain: Observation, ours: Observation) -> Iterator[Difference]:
    was, is_now = dict(plain.lanes), dict(ours.lanes)
    for name in sorted(was.keys() | is_now.keys()):
        if was.get(name) != is_now.get(name):
            yield Difference(name, "; ".join(was.get(name, ())), "; ".join(is_now.get(name, ())))


def _server(program: Program, plain: Observation, ours: Observation) -> Iterator[Difference]:
    if plain.server is None or ours.server is None:
        return
    was, is_now = as_compared(program, plain.server), as_compared(program, ours.server)
    if was != is_now:
        yield Difference(SERVER, "\n           ".join(was), "\n           ".join(is_now))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one program.

    Attributes:
        is_comparable: all runs of plain agree.
        is_sound: the program ran to its end.
        rare: where ours differed at first, but not always.
        found: where ours differs, always.
    """

    is_comparable: bool
    found: tuple[Difference, ...] = ()
    is_sound: bool = True
    rare: tuple[Difference, ...] = ()


def judge(runner: Runner, program: Program, *, ours: str | None = None) -> Verdict:
    """Run a program on plain twice and on ours once; where ours differs, both as `CONFIRMATIONS` says.

    Args:
        runner: runs it.
        program: the program.
        ours: another kind to compare with plain, or `ITSELF`; the program's form by default.
    """
    kind = reference(program.form)
    ours = kind if ours == ITSELF else ours
    if runner.is_eager and _fails_in_grpcio(program):
        return Verdict(False)
    plain = runner.run(program, kind)
    if _hangs(plain) or plain != runner.run(program, kind, plain):
        return Verdict(False)
    found = differences(program, plain, runner.run(program, ours or program.form, plain))
    if not found:
        return Verdict(True)
    if any(plain != runner.run(program, kind, plain, pace) for pace in CONFIRMATIONS):
        return Verdict(False)
    for _ in CONFIRMATIONS:
        if not differences(program, plain, runner.run(program, ours or program.form, plain)):
            return Verdict(True, rare=tuple(found))
    return Verdict(True, tuple(found), all(name != "end" for name, _ in plain.lanes))


def _fails_in_grpcio(program: Program) -> bool:
    """Whether interceptors stand before requests that are written.

    With eager tasks the reader of these asks for grpcio's task of the interceptors before that is kept: AttributeError,
    which cancels the call midway, and the cancellation raises AttributeError, too (1.85.3). What is seen of it depends on
    how far the call has come.
    """
    return "interceptors" in program.text and re.search(r"\bm\d\((request_iterator=)?None", program.text) is not None


def _hangs(observation: Observation) -> bool:
    return any("hang" in note for name, notes in observation.lanes if name == "end" for note in notes)


def minimise(runner: Runner, program: Program, found: tuple[Difference, ...], *, ours: str | None = None) -> Program:
    """Return a smaller program that differs in the same kind, or `program`."""
    kinds = {one.kind for one in found}

    def still(candidate: Program) -> bool:
        try:
            compile(candidate.text, "candidate", "exec")
        except SyntaxError:
            return False
        verdict = judge(runner, candidate, ours=ours)
        return verdict.is_sound and any(one.kind in kinds for one in verdict.found)

    until = time.monotonic() + MINIMISING
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(program):
            if time.monotonic() > until:
                return program
            if still(candidate):
                program, smaller = candidate, True
                break
    return program


_SIMPLER = (
    *((r"fresh=True, ", ""), (r"fresh=True", ""), (r"interceptors=\[.*?\]", ""), (r", metadata=md\d", "")),
    *((r", timeout=20", ""), (r"see\.noting\(.*?, (\w+)\)", r"\1"), (r"request_iterator=|request=", "")),
    *(
        (r'", "trail"', '"'),
        (r'", "head"', '"'),
        (r'", "sleep=20"', '"'),
        (r"\.encode\(\)", ""),
        (r"see\.thread", "see"),
    ),
    *((r", request_serializer=user", ", request_serializer=joined"), (r", response_deserializer=text", "")),
    (r'await see\.wait\(lambda: as_user\("alice", lambda: (.*)\)\)$', r"see(lambda: \1)"),
)


def _candidates(program: Program) -> Iterator[Program]:
    """Yield smaller programs; none that closes a channel which other programs use."""
    for candidate in _all_candidates(program):
        text = candidate.text
        if "channel.close" not in text or re.search("fresh=True|dead=True|interceptors=", text):
            yield candidate


def _all_candidates(program: Program) -> Iterator[Program]:
    for index in reversed(range(len(program.lines))):
        yield program.without(index)
    for index, line in enumerate(program.lines):
        for pattern, simple in _SIMPLER:
            shorter = re.sub(pattern, simple, line)
            if shorter != line:
                yield replace(program, lines=(*program.lines[:index], shorter, *program.lines[index + 1 :]))
    if program.form != "none":
        yield replace(program, form="none")


def report(program: Program, found: tuple[Difference, ...]) -> str:
    """Return a program and how ours differs, to be read, and to be run again."""
    return "\n".join([program.text, *(str(one) for one in found), ""])
