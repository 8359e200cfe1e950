"""The contract between a resolver and whoever runs it.

The one rule: a resolver always hands over the whole list, never a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from healthlb.core.messages import Endpoint

Update = Callable[[Sequence[Endpoint]], None]


class Resolver(Protocol):
    """Says which endpoints a target has, now and whenever that changes.

    One resolver serves one channel. It is made without I/O and without an event loop, and
    `resolve` runs on healthlb's control loop in both faces.

    Two members are optional:

    - `refresh(self) -> None`: look again soon. Called on the loop's thread when a connection is
      lost, so it must only take a note. A resolver without it is left alone.
    - `authority: str | None`: the `:authority` and TLS server name of every endpoint. Without it
      each endpoint goes by its own address.
    """

    async def resolve(self, update: Update) -> None:
        """Call `update` with the whole list at each change, until cancelled.

        It must not block the loop. It may be called again after it raised: at once when a
        connection is lost, else after an exponential backoff (1 s, x1.6, at most 120 s).

        Args:
            update: takes every endpoint there is; call it on the loop's thread.

        Raises:
            Exception: the target could not be resolved. The last good list stays in use, and the
                text is shown to the user.
        """
        ...
