"""Protobuf's wire format, compared with what protobuf itself writes."""

from __future__ import annotations

import struct

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from healthlb.core.wire import encode_varint, read_fields


@given(st.integers(0, 2**64 - 1))
def test_a_number_comes_back(number: int) -> None:
    assert list(read_fields(b"\x08" + encode_varint(number))) == [(1, number)]


@given(st.text(), st.floats(allow_nan=False))
def test_text_and_doubles_of_protobuf(text: str, number: float) -> None:
    message = Value(string_value=text).SerializeToString() + Value(number_value=number).SerializeToString()

    assert list(read_fields(message)) == [(3, text.encode()), (2, number)]


def test_an_entry_of_a_map() -> None:
    message = Struct(fields={"name": Value(bool_value=True)}).SerializeToString()
    ((number, entry),) = read_fields(message)

    assert number == 1
    assert isinstance(entry, bytes)
    assert dict(read_fields(entry)) == {1: b"name", 2: b"\x20\x01"}


def test_32_fixed_bits_are_left_out() -> None:
    assert list(read_fields(b"\x0d" + struct.pack("<f", 1.5) + b"\x10\x07")) == [(2, 7)]


@pytest.mark.parametrize(
    "message",
    [
        b"\x80",  # a tag that is cut off
        b"\x08" + b"\x80" * 10 + b"\x01",  # a number of more than 64 bits
        b"\x0a\x05abc",
        b"\x09abc",
        b"\x0dabc",
        b"\x0b\x0c",  # a group, which proto3 has not
        b"\x0f",
    ],
)
def test_what_is_no_message(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|wire type"):
        list(read_fields(message))


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        list(read_fields(data))
    except ValueError:
        return
