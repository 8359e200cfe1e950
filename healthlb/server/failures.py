"""How what others' code raised is logged."""

from __future__ import annotations

import logging
import traceback

from healthlb.core.user_code import words

_log = logging.getLogger("healthlb.server")


def log_failure(what: str, error: BaseException) -> None:
    """Log an error and where it came from.

    Not with logging's `exc_info`, which shows the text of an exception as it is: a peer may have chosen it.

    Args:
        what: what failed, as the beginning of a sentence.
        error: what was raised.
    """
    _log.error("%s: %s\n%s", what, words(error), "".join(traceback.format_tb(error.__traceback__)).rstrip())
