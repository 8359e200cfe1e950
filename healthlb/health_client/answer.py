"""The answer of a `grpc.health.v1` server as a value, and the remedies for common mistakes that a client adds to it.

It imports little before something fails: `healthlb probe` starts in every container every few seconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc

from healthlb.control.health_messages import decode_list, decode_response
from healthlb.core.states import ServingStatus, serving_name
from healthlb.errors import InvalidResponse
from healthlb.text import REMEDY_MARK, add_remedy, printable

_DEFINED = frozenset(ServingStatus)
_LONGEST_REMEDY = 1000
_FOREIGN = "what answers there is not grpc.health.v1.Health: check the address"
_WARNING = 30  # logging.WARNING
_IN_A_LOOP = (
    "a sync health client is used inside a running event loop, which its calls block: use healthlb.aio.HealthClient, "
    "or make the calls in a thread (asyncio.to_thread)"
)


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """What a server says of a service, or how the call ended that brought no answer.

    `str` of it is the status, or the failure and what to do about it, in one line.

    Attributes:
        service: the name asked for; `""` is the whole server.
        status: UNKNOWN where no answer came, and for numbers that `grpc.health.v1` does not define.
        number: the status as the server sent it, None where no answer came.
        address: of the backend that answered; only a HealthAwareChannel without interceptors tells it, else None.
        code: `grpc.StatusCode.OK`, or how the call ended that brought no answer.
        details: the text of that end: one line of at most 300 printable characters.
        remedy: what to do about the failure, or about SERVICE_UNKNOWN, in words; "" where that is not known.
    """

    service: str
    status: ServingStatus = ServingStatus.UNKNOWN
    number: int | None = None
    address: str | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        if self.number is not None:
            return serving_name(self.number)
        return add_remedy(f"{self.code.name}: {self.details}" if self.details else self.code.name, self.remedy)


class HealthAdviser:
    """Finds the remedies of one client.

    Args:
        shown: the client's target, as it is logged.
        wording: the name of one in `healthlb.core.wordings`.
        is_secure: whether the client's channel speaks TLS, None where that is not known.
    """

    def __init__(self, shown: str, wording: str, *, is_secure: bool | None) -> None:
        self.is_secure: bool | None = is_secure
        self._shown = shown
        self._wording = wording
        self._logged: set[str] = set()

    def of_failure(self, method: str, service: str, code: grpc.StatusCode, details: str) -> str:
        """Return what to do about a call that ended so, "" where that is not known; a remedy in `details` stands."""
        from healthlb.control.codes import to_code
        from healthlb.core import remedies, wordings

        told = details.partition(REMEDY_MARK)[2]
        wording = getattr(wordings, self._wording)
        return told or remedies.of_asking(
            to_code(code), details, service, method, is_secure=self.is_secure, wording=wording
        )

    def of_status(self, service: str, number: int) -> str:
        """Return what to do about a serving status, "" where there is nothing."""
        from healthlb.core import remedies, wordings

        return remedies.of_name(number, service, getattr(wordings, self._wording))

    def explained(self, method: str, service: str, error: Any) -> str:
        """Return the text of a call's error, with its remedy where one is known."""
        code, details = error.code(), error.details() or ""
        if code is None or REMEDY_MARK in details or not (remedy := self.of_failure(method, service, code, details)):
            return str(details)
        return add_remedy(details or code.name, remedy)

    def warn(self, answer: HealthAnswer) -> None:
        """Log the remedy of an answer, if it has one; each once for a client."""
        if not answer.remedy:
            return
        text = str(answer) if answer.number is None else add_remedy(str(answer), answer.remedy)
        self._log_once(answer.remedy, text)

    def about_to_block(self) -> None:
        """Log that a blocking call is made on an event loop's thread, once for a client."""
        # The public function raises where no loop runs, and that takes ten times as long.
        if asyncio._get_running_loop() is not None:
            self._log_once(_IN_A_LOOP, _IN_A_LOOP)

    def _log_once(self, key: str, text: str) -> None:
        if key in self._logged:
            return
        self._logged.add(key)
        from healthlb.control.user_code import log_guarded

        log_guarded(_WARNING, f"{self._shown}: {text}")


def to_status(number: int) -> ServingStatus:
    """Return a serving status; numbers that are not defined are UNKNOWN."""
    return ServingStatus(number) if number in _DEFINED else ServingStatus.UNKNOWN


def answered(service: str, message: object, call: object, adviser: HealthAdviser) -> HealthAnswer:
    """Return what a HealthCheckResponse says.

    Args:
        service: the name asked for.
        message: as it came.
        call: that brought it.
        adviser: of the client.

    Raises:
        InvalidResponse: it is no such message.
    """
    try:
        number = decode_response(message)
    except ValueError as error:
        raise InvalidResponse(add_remedy(printable(error), _FOREIGN)) from None
    remedy = "" if number == ServingStatus.SERVING else adviser.of_status(service, number)
    return HealthAnswer(service, to_status(number), number, getattr(call, "address", None), remedy=remedy)


def listed(message: bytes) -> dict[str, ServingStatus]:
    """Return what a HealthListResponse says, by name.

    Raises:
        InvalidResponse: it is no such message.
    """
    try:
        return {name: to_status(number) for name, number in decode_list(message).items()}
    except ValueError as error:
        raise InvalidResponse(add_remedy(printable(error), _FOREIGN)) from None


def failed(service: str, code: grpc.StatusCode | None, details: object, remedy: str = "") -> HealthAnswer:
    """Return that a call ended like this, and brought no answer."""
    code = code or grpc.StatusCode.UNKNOWN
    return HealthAnswer(service, code=code, details=printable(details or ""), remedy=printable(remedy, _LONGEST_REMEDY))


def failed_with(
    service: str, error: BaseException, method: str = "Check", adviser: HealthAdviser | None = None
) -> HealthAnswer:
    """Return that a call ended with an exception, and brought no answer.

    Args:
        service: the name asked for.
        error: that it raised.
        method: that was called: Check, Watch or List.
        adviser: says what to do where the error does not.
    """
    if isinstance(error, InvalidResponse):
        text, _, told = str(error).partition(REMEDY_MARK)
        return failed(service, grpc.StatusCode.INTERNAL, text, told)
    if not isinstance(error, grpc.RpcError) or not hasattr(error, "code") or not hasattr(error, "details"):
        return failed(service, None, f"{type(error).__name__}: {printable(error)}")
    code = error.code()
    if code is grpc.StatusCode.OK:
        return ended(service)
    details = error.details() if adviser is None or code is None else adviser.explained(method, service, error)
    text, _, remedy = (details or "").partition(REMEDY_MARK)
    return failed(service, code, "" if code is not None and text == code.name else text, remedy)


def ended(service: str) -> HealthAnswer:
    """Return that the server has ended a Watch without a failure, which says nothing of health."""
    return failed(service, grpc.StatusCode.OK, "the server has ended the Watch")
