"""grpcio's names for states and status codes, and the core's."""

from __future__ import annotations

import grpc

from healthlb.core.states import Code, ConnectivityState

_STATES = {state: ConnectivityState(state.value[0]) for state in grpc.ChannelConnectivity}
_GRPC_STATES = {value: key for key, value in _STATES.items()}
_CODES = {code: Code(code.value[0]) for code in grpc.StatusCode}
_CODES_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_GRPC_CODES = {value: key for key, value in _CODES.items()}


def to_state(state: grpc.ChannelConnectivity) -> ConnectivityState:
    """Return the core's name for a connectivity state."""
    return _STATES[state]


def to_grpc_state(state: ConnectivityState) -> grpc.ChannelConnectivity:
    """Return grpcio's name for a connectivity state."""
    return _GRPC_STATES[state]


def to_code(code: grpc.StatusCode) -> Code:
    """Return the core's name for a status code."""
    return _CODES[code]


def to_grpc_code(code: Code) -> grpc.StatusCode:
    """Return grpcio's name for a status code."""
    return _GRPC_CODES[code]


def code_of(number: int) -> grpc.StatusCode:
    """Return grpcio's name for C-core's number of a status; one that is none is UNKNOWN."""
    return _CODES_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN)
