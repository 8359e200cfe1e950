"""The contract between a resolver and whoever runs it.

The one rule: a resolver always hands over the whole list, never a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from healthlb.core.messages import Endpoint

Update = Callable[[Sequence[Endpoint | str]], None]


class Resolver(Protocol):
    """Says which endpoints a target has, now and whenever that changes.

    One resolver serves one channel. It is made without I/O and without an event loop, and
    `resolve` runs on healthlb's control loop in both faces.

    Four members are optional:

    - `refresh(self) -> None`: look again soon. Called on the loop's thread when a connection is
      lost, so it must only take a note. A resolver without it is left alone.
    - `authority: str | None`: the `:authority` and TLS server name of every endpoint. Without it
      each endpoint goes by its own address.
    - `interval: float`: seconds in which a resolver that raised is run again at the latest; 30 without it. Above 0.
    - `keep: float`: seconds for which an address that is missing in a new list stays in use, while it is connected and
      healthy; 0 without it.

    They are read where the channel is made, which raises ConfigError for what is of another kind.
    """

    async def resolve(self, update: Update) -> None:
        """Call `update` with the whole list at each change, until cancelled.

        It must not block the loop: in the sync face a resolver that does so for 5 s gets a thread to itself, and its
        channel keeps the list it had (docs/user_code.md). It may be called again after it raised: at once when a
        connection is lost, else after an exponential backoff (1 s, x1.6, at most `interval`).

        Args:
            update: takes every endpoint there is, as `Endpoint` objects or addresses (`"host:port"`), as a target that
                is a list does; from any thread. It raises what is wrong with the list.

        Raises:
            BaseException: the target could not be resolved. The last good list stays in use, and type and text are
                shown to the user. Whatever it is, SystemExit included, it is this channel's failure only.
        """
        ...
