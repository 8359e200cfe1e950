"""Whether something listens, and whether a URL answers well."""

from __future__ import annotations

import inspect
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Container, Mapping
from typing import Any

from healthlb.config import check_count, check_number
from healthlb.control.proxies import is_local
from healthlb.errors import ConfigError
from healthlb.server.checks.unhealthy import Unhealthy, check_text


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


_SUCCESS = range(200, 300)


def http_get(
    url: str,
    statuses: Container[int] = _SUCCESS,
    timeout: float = 3.0,
    headers: Mapping[str, str] | None = None,
    client: Any = None,
) -> Callable[[], None]:
    """Return a check that gets a URL.

    Args:
        url: http or https.
        statuses: that are healthy; default 200 to 299. Redirects are followed, by httpx only if its client says so.
        timeout: seconds; above 0.
        headers: sent along.
        client: an `httpx.Client`, which keeps its connections; None for the standard library.

    Raises:
        ConfigError: a value is out of its bounds or of a wrong type, or the URL has another scheme, no host or a port
            that is none.
    """
    check_number("timeout", timeout, above=0)
    check_text("url", url)
    for option, value, kind in (("statuses", statuses, Container), ("headers", headers or {}, Mapping)):
        if isinstance(value, str) or not isinstance(value, kind):
            raise ConfigError(f"{option} must be a {kind.__name__.lower()}, not {value!r}")
    if client is not None and (not hasattr(client, "get") or inspect.iscoroutinefunction(client.get)):
        raise ConfigError(f"client must be an httpx.Client, not {client!r}")
    _check_url(url)

    def check() -> None:
        given = dict(headers or {})
        if client is None:
            status = _get(url, timeout, given)
        else:
            status = client.get(url, timeout=timeout, headers=given).status_code
        if status not in statuses:
            raise Unhealthy(f"{url} answers {status}")

    return check


def _check_url(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"url must begin with http:// or https://, not {url!r}")
    try:
        address = urllib.parse.urlsplit(url)
        is_whole = bool(address.hostname) and address.port != 0
    except ValueError:  # brackets without their like, or a port that is none
        is_whole = False
    if not is_whole:
        raise ConfigError(f"url must have a host, and a port from 1 to 65535 where it has one, not {url!r}")


def _get(url: str, timeout: float, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener()
    if is_local(urllib.parse.urlsplit(url).hostname or ""):  # no proxy of the environment stands in between
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
