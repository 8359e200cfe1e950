"""Whether a URL answers well."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Container, Mapping
from typing import Any

from healthlb.config import check_number
from healthlb.errors import ConfigError
from healthlb.server.checks.unhealthy import Unhealthy

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
        ConfigError: a value is out of its bounds, or the URL has another scheme.
    """
    check_number("timeout", timeout, above=0)
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"url must begin with http:// or https://, not {url!r}")

    def check() -> None:
        given = dict(headers or {})
        if client is None:
            status = _get(url, timeout, given)
        else:
            status = client.get(url, timeout=timeout, headers=given).status_code
        if status not in statuses:
            raise Unhealthy(f"{url} answers {status}")

    return check


def _get(url: str, timeout: float, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
