"""What a failed attempt says about whether it ever left.

The one rule: a text is not a contract, so no single piece of evidence is enough. A gateway may pass on
its own backend's refusal, after it has executed the call.
"""

from __future__ import annotations

import re
from typing import Any

_REFUSAL = "failed to connect to all addresses; last error: "
_IP_ADDRESS = re.compile(r"^(\[?[0-9a-fA-F:.]+\]?):(\d+)$")


def names_refusal(details: str | None, address: str) -> bool:
    """Whether `details` is C-core's word that no connection to this very address could be made.

    Args:
        details: of a call that ended with UNAVAILABLE.
        address: an IP address with port or a unix socket; for a host name the answer is no, since
            the text names the resolved address.
    """
    if details is None or not details.startswith(_REFUSAL):
        return False
    if address.startswith("unix"):
        return f"unix:{address.partition(':')[2].removeprefix('//')}: " in details
    if not _IP_ADDRESS.match(address):
        return False
    escaped = address.replace("[", "%5B").replace("]", "%5D")
    return f"ipv4:{address}: " in details or f"ipv6:{escaped}: " in details


def connectivity(channel: Any, *, connect: bool) -> int:
    """Return C-core's number for a sync channel's state (grpcio has no public call for it)."""
    return int(channel._channel.check_connectivity_state(connect))
