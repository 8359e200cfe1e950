"""The tasks of the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def start_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task that ends with its channel, or without a word where its loop is closed before."""
    task = loop.create_task(work)
    # asyncio's own background tasks say so too: it is the user's loop, and no news to the user.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task
