"""The pickers, for use from code: `picker=lambda: RingHash(request_hash_header="x-user")`.

Each is a factory to give as `picker=`, as it is or with arguments. What a picker of one's own is made of is here too.
"""

from __future__ import annotations

from healthlb.core.load import Load as Load
from healthlb.core.load import Subchannel as Subchannel
from healthlb.core.messages import Code as Code
from healthlb.core.messages import Endpoint as Endpoint
from healthlb.core.pickers import CallEnd as CallEnd
from healthlb.core.pickers import CallInfo as CallInfo
from healthlb.core.pickers import Picker as Picker
from healthlb.core.pickers import PickerFactory as PickerFactory
from healthlb.core.pickers import picker_names as picker_names
from healthlb.core.pickers import register_picker as register_picker
from healthlb.core.pickers.least_request import LeastRequest as LeastRequest
from healthlb.core.pickers.orca import LoadReport as LoadReport
from healthlb.core.pickers.peak_ewma import PeakEwma as PeakEwma
from healthlb.core.pickers.pick_first import PickFirst as PickFirst
from healthlb.core.pickers.random_pick import RandomPick as RandomPick
from healthlb.core.pickers.ring_hash import RingHash as RingHash
from healthlb.core.pickers.round_robin import RoundRobin as RoundRobin
from healthlb.core.pickers.weighted_round_robin import WeightedRoundRobin as WeightedRoundRobin

__all__ = [
    "CallEnd",
    "CallInfo",
    "Code",
    "Endpoint",
    "LeastRequest",
    "Load",
    "LoadReport",
    "PeakEwma",
    "PickFirst",
    "Picker",
    "PickerFactory",
    "RandomPick",
    "RingHash",
    "RoundRobin",
    "Subchannel",
    "WeightedRoundRobin",
    "picker_names",
    "register_picker",
]
