"""Helps to test programs that use healthlb: a fake backend, and checks for pickers of your own.

`FakeBackend` needs the extra `server`, the strategies `subchannels` and `calls` need the `hypothesis` library; the rest
needs nothing.
"""

from healthlb.testing.backend import FakeBackend, ReceivedCall
from healthlb.testing.pickers import (
    calls,
    check_distribution,
    check_purity,
    check_survives_rebuild,
    count_picks,
    make_subchannels,
    open_factory,
    subchannels,
)

__all__ = [
    "FakeBackend",
    "ReceivedCall",
    "calls",
    "check_distribution",
    "check_purity",
    "check_survives_rebuild",
    "count_picks",
    "make_subchannels",
    "open_factory",
    "subchannels",
]
