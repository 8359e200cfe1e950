"""Sobol's sequence: points that fill a cube evenly, however many of them there are.

The first 2**k points, in each dimension, lie one in each of 2**k equal intervals, whatever the seed.

The direction numbers are those of Joe and Kuo (2008), `new-joe-kuo-6`, for the first eight dimensions. A digital shift
moves all points by the same bits in each dimension; it keeps what the rule says and spares the corner at 0.
"""

from __future__ import annotations

import hashlib

MOST_DIMENSIONS = 8
_BITS = 32
# For each dimension after the first: degree and inner coefficients of its polynomial, and its first numbers.
_POLYNOMIALS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
)


def points(count: int, dimensions: int, seed: int = 1) -> list[tuple[float, ...]]:
    """Return the first points of the sequence.

    Args:
        count: how many; powers of two fill the cube best.
        dimensions: 1 to 8.
        seed: of the shift.
    """
    columns = [_column(count, _directions(dimension), _shift(dimension, seed)) for dimension in range(dimensions)]
    return list(zip(*columns, strict=True))


def _directions(dimension: int) -> list[int]:
    if dimension == 0:
        return [1 << (_BITS - 1 - bit) for bit in range(_BITS)]
    degree, coefficients, first = _POLYNOMIALS[dimension - 1]
    found = [number << (_BITS - 1 - bit) for bit, number in enumerate(first)]
    for bit in range(degree, _BITS):
        number = found[bit - degree] ^ (found[bit - degree] >> degree)
        for inner in range(1, degree):
            if coefficients >> (degree - 1 - inner) & 1:
                number ^= found[bit - inner]
        found.append(number)
    return found


def _shift(dimension: int, seed: int) -> int:
    hashed = hashlib.blake2b(f"sobol {seed} {dimension}".encode(), digest_size=_BITS // 8)
    return int.from_bytes(hashed.digest(), "big")


def _column(count: int, directions: list[int], shift: int) -> list[float]:
    # Gray code order: each point differs from the one before by one direction number.
    found = []
    number = 0
    for index in range(count):
        found.append((number ^ shift) / 2**_BITS)
        lowest_zero = (~index & (index + 1)).bit_length() - 1
        number ^= directions[lowest_zero]
    return found
