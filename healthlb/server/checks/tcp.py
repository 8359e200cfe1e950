"""Whether something listens."""

from __future__ import annotations

import socket
from collections.abc import Callable

from healthlb.config import check_count, check_number
from healthlb.server.checks.unhealthy import check_text


def tcp_connect(host: str, port: int, timeout: float = 3.0) -> Callable[[], None]:
    """Return a check that connects and hangs up.

    Args:
        host: a name or an IP address; each of its addresses is tried.
        port: 1 to 65535.
        timeout: seconds for each address; above 0.

    Raises:
        ConfigError: a value is out of its bounds, or of a wrong type.
    """
    check_text("host", host)
    check_count("port", port, low=1, high=65535)
    check_number("timeout", timeout, above=0)

    def check() -> None:
        socket.create_connection((host, port), timeout).close()

    return check
