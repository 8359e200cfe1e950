"""The exceptions that healthlb raises by itself, split by whose fault they are.

    HealthLBError
    ├── ConfigError (ValueError)      an option or a target that cannot work
    ├── ChannelClosed (ValueError)    a call on a channel that was closed
    └── ChannelUnusable (RuntimeError)  used in a forked child, on another event loop, or under gevent

A call that fails is none of these: it raises `grpc.RpcError` (in `healthlb.aio`:
`grpc.aio.AioRpcError`), so that existing `except` clauses keep working.
"""


class HealthLBError(Exception):
    """The root of healthlb's own exceptions."""


class ConfigError(HealthLBError, ValueError):
    """An option or a target is malformed; the text names option, value and bound."""


class ChannelClosed(HealthLBError, ValueError):
    """A call was made on a closed channel (a ValueError, as grpcio raises)."""


class ChannelUnusable(HealthLBError, RuntimeError):
    """The channel cannot work where it is used; the text says what to do instead."""
