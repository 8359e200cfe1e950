"""What a channel learns of usual silences, over many looks; single rules are specs (heartbeat-20 to -23)."""

from __future__ import annotations

from typing import Any

from tests.core.spec_world import World

SPEC = {"title": "", "health": {"heartbeat": {"interval": 100000.0, "timeout": 3.0}}, "phases": []}


def play(world: World, at: float, *events: list[Any], **expected: Any) -> None:
    world.play({"at": at, "events": list(events), **expected})


def test_one_long_silence_teaches_little() -> None:
    world = World(SPEC)
    play(world, 0.0, ["Resolved", ["a", "b", "c"]], ["well", 1, 2, 3], ["call_began", 1])

    def others_answer(first: int, last: int, *answers: list[Any]) -> None:
        """Have a call of 50 ms on each of the others in each tenth of a second."""
        for tenth in range(first, last):
            play(world, tenth / 10, ["call_began", 2], ["call_began", 3], *answers)
            play(world, tenth / 10 + 0.05, ["call_ended", 2, "OK"], ["call_ended", 3, "OK"])

    # A call takes 6 s on a backend that answers each Check. It ends well; the next one does not.
    others_answer(1, 60, *(["CheckEnded", 1, check, "OK"] for check in range(1, 9)))
    play(world, 6.0, ["call_ended", 1, "OK"], ["call_began", 1])
    others_answer(61, 98)
    play(world, 9.8, states={"a": "TRANSIENT_FAILURE", "b": "READY", "c": "READY"})
