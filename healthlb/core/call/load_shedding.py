"""Which calls are refused while some backends hang and the others have too much to do.

Theory: an exclusion gives the others the calls of who hangs. Where they cannot do those as well, all calls come too
late. Without any protection a hung backend would get its share of the calls, and lose them: the others would be as well
as before. So while there is strain, what the others cannot do is refused at once, and at most the share of those that
hang; see `healthlb.core.exclusion.refused_share`.

The one rule: nobody is given more than without protection, and nothing is refused that this would not lose.
"""

from __future__ import annotations

from healthlb.core.load import Subchannel
from healthlb.core.messages import Code
from healthlb.core.pickers import ANY_CALL, ANY_REPEATABLE_CALL, CallInfo, Picker
from healthlb.core.pickers.checked import FailedPick
from healthlb.core.remedies import NO_SHEDDING, SHEDDING, explained
from healthlb.core.shedding import Shedding


class Refusal(FailedPick):
    """Stands for a backend that hangs: the call that picks it ends with UNAVAILABLE."""

    __slots__ = ()

    code = Code.UNAVAILABLE


class SharingPicker:
    """Refuses a part of the first attempts, drawn at random; the picker has all others.

    Args:
        picker: chooses among those that are READY.
        shedding: which part of the calls is refused.
    """

    __slots__ = ("_draw", "_picker", "_refusal", "_share")

    def __init__(self, picker: Picker, shedding: Shedding) -> None:
        self._picker = picker
        self._share = shedding.share
        self._draw = shedding.draw
        text = SHEDDING.format(hung=shedding.hung, total=shedding.total, share=shedding.share)
        self._refusal = Refusal(explained(text, [NO_SHEDDING]))

    @property
    def name(self) -> str:
        """That of the picker, for errors; empty for healthlb's own."""
        return str(getattr(self._picker, "name", ""))

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the picker's choice or a `Refusal`; None for a call without its terms, which is picked again."""
        if call is ANY_CALL or call is ANY_REPEATABLE_CALL:
            # A quick first pick, which knows no refusals; the call comes again, and then counts once.
            return None
        if call.attempt > 1 or call.exclude:
            return self._picker.pick(call)
        return self._refusal if self._draw() < self._share else self._picker.pick(call)


def with_share(picker: Picker, shedding: Shedding | None) -> Picker:
    """Return the picker to publish: `picker` itself if no calls are refused."""
    return picker if shedding is None else SharingPicker(picker, shedding)
