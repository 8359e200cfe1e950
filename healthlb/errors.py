"""The exceptions that healthlb raises by itself, split by whose fault they are.

    HealthLBError
    ├── ConfigError (ValueError)      an option or a target that cannot work
    ├── ChannelClosed (ValueError)    a call on a channel that was closed
    ├── ChannelUnusable (RuntimeError)  used in a forked child, on another event loop, or without real threads
    ├── NotServing                    a service that is required to be SERVING has another status
    └── InvalidResponse (ValueError)  an answer that is no message of `grpc.health.v1`

A call that fails is none of these: it raises `grpc.RpcError` (in `healthlb.aio`:
`grpc.aio.AioRpcError`), so that existing `except` clauses keep working.
"""

_LONGEST = 2_000
_CUT = " [...] "


class HealthLBError(Exception):
    """The root of healthlb's own exceptions."""


class ConfigError(HealthLBError, ValueError):
    """An option or a target is malformed; the text names option, value and bound.

    Args:
        text: what is wrong. Values are quoted in it, and may be of any length: of a text of more than 2,000 characters
            the middle is left out.
    """

    def __init__(self, text: str = "") -> None:
        kept = (_LONGEST - len(_CUT)) // 2
        super().__init__(text if len(text) <= _LONGEST else f"{text[:kept]}{_CUT}{text[-kept:]}")


class ChannelClosed(HealthLBError, ValueError):
    """A call was made on a closed channel (a ValueError, as grpcio raises)."""


class NotServing(HealthLBError):
    """A server answered that a service is not SERVING.

    Args:
        service: the name asked for; `""` is the whole server.
        answer: what was answered, in words.
        address: of the backend that answered, None where it is not known.

    Attributes:
        service: the name asked for.
        answer: what was answered, in words.
        address: of the backend that answered, None where it is not known.
    """

    def __init__(self, service: str, answer: str, address: str | None = None) -> None:
        super().__init__(service, answer, address)
        self.service = service
        self.answer = answer
        self.address = address

    def __str__(self) -> str:
        shown = repr(self.service) if self.service else "the server"
        return f"{shown} is {self.answer}" + (f" at {self.address}" if self.address else "")


class InvalidResponse(HealthLBError, ValueError):
    """A server's answer is no message of `grpc.health.v1`."""


class ChannelUnusable(HealthLBError, RuntimeError):
    """The channel cannot work where it is used; the text says what to do instead."""
