"""Protects calls from the mistakes of a picker that the user wrote.

Calls use whatever a picker returns. So an exception or a wrong result of a user's picker becomes the status of the one
call that asked, and a subchannel that it remembers from an earlier list is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from healthlb.core.load import Load, Subchannel
from healthlb.core.messages import Code, Endpoint
from healthlb.core.pickers.contract import CallInfo, Picker
from healthlb.core.user_code import Guard, shown, words

_EXPECTED = "a picker returns one of the subchannels that build was given, or None"


class FailedPick(Subchannel):
    """A stand-in that is returned when a picker has failed. No call can start on it.

    Attributes:
        reason: which picker failed and how; it becomes the details of the call's status.
        code: the status with which the call ends.
    """

    __slots__ = ("reason",)

    code = Code.INTERNAL

    def __init__(self, reason: str) -> None:
        load = Load()
        load.retire(lambda: None)
        super().__init__(0, 0, Endpoint(""), load=load)
        self.reason: str = reason


class FailedPicker:
    """The picker of a channel whose factory has never built one. Every call ends with the reason.

    Args:
        reason: which factory failed and how.
    """

    __slots__ = ("_reason",)

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def pick(self, call: CallInfo) -> Subchannel:
        """Return the fault."""
        return FailedPick(self._reason)


class CheckedPicker:
    """Asks a user's picker and checks its answer.

    Args:
        picker: the user's picker; the last good one if a new one could not be built.
        ready: the subchannels that are READY.
        spare: picks if the user's picker returns nothing that is READY.
        name: the picker's name, for errors.
        guard: told of the first error.
        is_stale: whether `picker` was built from other subchannels than `ready`. Its None then leads to `spare`.
    """

    __slots__ = ("_guard", "_is_logged", "_is_stale", "_name", "_pick", "_ready", "_spare")

    def __init__(
        self,
        picker: Picker,
        ready: Iterable[Subchannel],
        spare: Picker,
        *,
        name: str,
        guard: Guard,
        is_stale: bool = False,
    ) -> None:
        self._pick: Callable[[CallInfo], object] = picker.pick
        self._ready = frozenset(ready)
        self._spare = spare
        self._name = name
        self._guard = guard
        self._is_stale = is_stale
        self._is_logged = is_stale

    @property
    def name(self) -> str:
        """The factory's name, for errors."""
        return self._name

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return a subchannel that is READY, a `FailedPick`, or None."""
        try:
            found = self._pick(call)
        except BaseException as error:
            return self._failed(error)
        if isinstance(found, Subchannel):
            return found if found in self._ready else self._pick_again(found, call)
        if found is not None:
            return self._wrong(found)
        return self._spare.pick(call) if self._is_stale else None

    def _pick_again(self, gone: Subchannel, call: CallInfo) -> Subchannel | None:
        """Ask once more, without a subchannel that is not READY any more; then let `spare` pick."""
        if isinstance(gone, FailedPick):
            return gone
        try:
            found = self._pick(call._replace(exclude=frozenset((*call.exclude, gone.id))))
        except BaseException as error:
            return self._failed(error)
        if isinstance(found, Subchannel) and found in self._ready:
            return found
        self._log(f"the picker {self._name} picks {gone.address}, which is not READY: what is READY is taken in turn")
        return self._spare.pick(call)

    def _failed(self, error: BaseException) -> FailedPick:
        if self._guard.is_interrupt(error):
            raise error
        reason = f"the picker {self._name} raised {words(error)}"
        self._log(reason, error)
        return FailedPick(reason)

    def _wrong(self, found: object) -> FailedPick:
        close = getattr(found, "close", None) if type(found).__name__ == "coroutine" else None
        if close is not None:
            close()  # Python would warn of it.
        reason = f"the picker {self._name} returned {shown(found)} from pick: {_EXPECTED}"
        self._log(reason)
        return FailedPick(reason)

    def _log(self, text: str, error: BaseException | None = None) -> None:
        if not self._is_logged:
            self._is_logged = True
            self._guard.tell(text, error)
