"""What a failed attempt says about whether it ever left.

The one rule: a text is not a contract, so no single piece of evidence is enough. A gateway may pass on
its own backend's refusal, after it has executed the call.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# What grpc.aio says, with INTERNAL, of a call that ended while a request was being written: its status is not known.
MADE_UP = "Internal error from Core"

# What C-core says of a call that the client itself could not send (1.85.3).
_LOCAL = ("Getting metadata from plugin failed", "Illegal metadata", "Invalid metadata", "CLIENT: ")

# What C-core says of a call whose connection was lost (1.85.3).
_LOSSES = ("Socket closed", "Connection reset", "Broken pipe", "Connection timed out", "GOAWAY received")

# What C-core says of a call whose stream ended without a status of the server's (1.68.1 to 1.85.3).
_BREAKS = ("Stream removed (", "Received RST_STREAM with error code", *_LOSSES)

_REFUSAL = "failed to connect to all addresses; last error: "


def names_refusal(details: str, addresses: Iterable[str]) -> bool:
    """Whether `details` is C-core's word that no connection to one of these very addresses could be made.

    Args:
        details: of a call that ended with UNAVAILABLE.
        addresses: what the subchannel's address stands for: IP addresses with port, or a unix socket.
    """
    return details.startswith(_REFUSAL) and any(_written(address) in details for address in addresses)


def names_loss(details: str) -> bool:
    """Whether `details` is C-core's word that a connection was lost, or a gateway's that it lost one of its own."""
    return any(words in details for words in _LOSSES)


def names_break(details: str) -> bool:
    """Whether `details` is C-core's word that a response broke off: connection lost, or stream reset."""
    return any(words in details for words in _BREAKS)


def _written(address: str) -> str:
    if address.startswith("unix"):
        return f"unix:{address.partition(':')[2].removeprefix('//')}: "
    if address.startswith("["):
        return f"ipv6:{address.replace('[', '%5B').replace(']', '%5D')}: "
    return f"ipv4:{address}: "


def connectivity(channel: Any, *, connect: bool) -> int:
    """Return C-core's number for a sync channel's state (grpcio has no public call for it)."""
    return int(channel._channel.check_connectivity_state(connect))


def names_the_client(details: str) -> bool:
    """Whether `details` is C-core's word that the client itself made a call fail.

    Its credentials, its metadata or its own limits did, so it says nothing of the backend.
    """
    return details.startswith(_LOCAL)
