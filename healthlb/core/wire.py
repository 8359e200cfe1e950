"""The wire format of Protocol Buffers, for the few messages that are read and written by hand.

Neither generated code nor a name in protobuf's descriptor pool is needed, so nothing can clash with an application's
own compiled files. See https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOUBLE = struct.Struct("<d")
_LONGEST_VARINT = 10


def encode_varint(number: int) -> bytes:
    """Return a number, 0 or more, as its groups of 7 bits, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield number and value of each field of a message; 64 fixed bits are a double, 32 fixed bits are left out.

    Raises:
        ValueError: it is no message, or it is cut off.
    """
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        size, position = _size(kind, data, position)
        content, position = data[position : position + size], position + size
        if position > len(data):
            raise ValueError("the message is cut off")
        if kind == _BYTES:
            yield number, content
        elif kind == _FIXED64:
            yield number, _DOUBLE.unpack(content)[0]


def _size(kind: int, data: bytes, position: int) -> tuple[int, int]:
    """Return how many bytes a field's content has, and where it begins."""
    if kind == _BYTES:
        return _read_varint(data, position)
    if kind == _FIXED64:
        return 8, position
    if kind == _FIXED32:
        return 4, position
    raise ValueError(f"wire type {kind}")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, position + place + 1
    raise ValueError("a number is cut off or too long")
