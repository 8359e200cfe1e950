"""What a client of `grpc.health.v1` hears, as a value."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from healthlb.control.health_messages import decode_list, decode_response
from healthlb.core.states import ServingStatus, serving_name
from healthlb.errors import InvalidResponse
from healthlb.text import printable

_DEFINED = frozenset(ServingStatus)


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """What a server says of a service, or how the call ended that brought no answer.

    `str` of it is the status, or the failure, in one line.

    Attributes:
        service: the name asked for; `""` is the whole server.
        status: UNKNOWN where no answer came, and for numbers that `grpc.health.v1` does not define.
        number: the status as the server sent it, None where no answer came.
        address: of the backend that answered; only a HealthAwareChannel without interceptors tells it, else None.
        code: `grpc.StatusCode.OK`, or how the call ended that brought no answer.
        details: the text of that end: one line of at most 300 printable characters.
    """

    service: str
    status: ServingStatus = ServingStatus.UNKNOWN
    number: int | None = None
    address: str | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""

    def __str__(self) -> str:
        if self.number is not None:
            return serving_name(self.number)
        return f"{self.code.name}: {self.details}" if self.details else self.code.name


def to_status(number: int) -> ServingStatus:
    """Return a serving status; numbers that are not defined are UNKNOWN."""
    return ServingStatus(number) if number in _DEFINED else ServingStatus.UNKNOWN


def answered(service: str, message: object, call: object) -> HealthAnswer:
    """Return what a HealthCheckResponse says.

    Args:
        service: the name asked for.
        message: as it came.
        call: that brought it.

    Raises:
        InvalidResponse: it is no such message.
    """
    try:
        number = decode_response(message)
    except ValueError as error:
        raise InvalidResponse(printable(error)) from None
    return HealthAnswer(service, to_status(number), number, getattr(call, "address", None))


def listed(message: bytes) -> dict[str, ServingStatus]:
    """Return what a HealthListResponse says, by name.

    Raises:
        InvalidResponse: it is no such message.
    """
    try:
        return {name: to_status(number) for name, number in decode_list(message).items()}
    except ValueError as error:
        raise InvalidResponse(printable(error)) from None


def failed(service: str, code: grpc.StatusCode | None, details: object) -> HealthAnswer:
    """Return that a call ended like this, and brought no answer."""
    return HealthAnswer(service, code=code or grpc.StatusCode.UNKNOWN, details=printable(details or ""))


def failed_with(service: str, error: BaseException) -> HealthAnswer:
    """Return that a call ended with an exception, and brought no answer."""
    if isinstance(error, grpc.RpcError) and hasattr(error, "code") and hasattr(error, "details"):
        code = error.code()
        return ended(service) if code is grpc.StatusCode.OK else failed(service, code, error.details())
    code = grpc.StatusCode.INTERNAL if isinstance(error, InvalidResponse) else grpc.StatusCode.UNKNOWN
    text = printable(error)
    return failed(service, code, text if isinstance(error, InvalidResponse) else f"{type(error).__name__}: {text}")


def ended(service: str) -> HealthAnswer:
    """Return that the server has ended a Watch without a failure, which says nothing of health."""
    return failed(service, grpc.StatusCode.OK, "the server has ended the Watch")
