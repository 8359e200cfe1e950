"""Equal requests to the same subchannel (gRPC's `ring_hash`, gRFC A42 and A76; Envoy's bounded load).

Every address of the resolver has places on a ring, in proportion to its weight; a request goes to the first READY one
at or after the place that its hash names. The ring is made of all addresses, and stays as it is when one becomes
unhealthy or comes back: that one is passed over, so only its own requests move, and publishing a change of health
costs no hashing and no sorting (P13).

Two things differ from A42, so rings are not those of gRPC in other languages:

- The hash is blake2b, which is in the standard library. xxHash64 in pure Python takes several microseconds for one
  header, more than a whole pick may cost, and spreads no better.
- The number of an address' places does not depend on how many addresses there are, but for the bounds of the ring:
  128 for the average weight, doubled while the ring is smaller than `min_ring_size` and halved while it is larger
  than `max_ring_size`. With A42's 1,024 for all, whoever leaves makes everybody else's places more, and twice as many
  requests move as have to.
"""

from __future__ import annotations

import math
import random
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from itertools import compress

from healthlb.config import check_count, check_number
from healthlb.core.load import Subchannel
from healthlb.core.messages import Endpoint
from healthlb.core.pickers.contract import CallInfo, PickerFactory
from healthlb.core.random_streams import Streams
from healthlb.errors import ConfigError

_LARGEST_RING = 8_388_608  # Of A42 and Envoy.
_PLACES = 128
_SPARSE = 8
_SAMPLE = 64
_STRETCH = 8
_EIGHT = struct.Struct("<8Q")


def hash_of(value: bytes) -> int:
    """Return where on the ring a value belongs, from 0 to 2**64."""
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "little")


class Ring:
    """The places of addresses.

    Args:
        endpoints: of the resolver.
        smallest: how many places there are to be at least.
        largest: and at most, but never less than one for each address.

    Attributes:
        hashes: the places, sorted.
        owners: whose each is, as a place in `endpoints`.
        starts: where in `hashes` the stretches begin that the leading bits of a hash name.
        index: where each address stands in `endpoints`.
    """

    def __init__(self, endpoints: Sequence[Endpoint], smallest: int, largest: int) -> None:
        counts = _counts([endpoint.weight for endpoint in endpoints], smallest, largest)
        places = [
            (place, owner)
            for owner, (endpoint, number) in enumerate(zip(endpoints, counts, strict=True))
            for place in _places(endpoint.address, number)
        ]
        places.sort()
        # Arrays lie close together, and a ring is looked at all over.
        self.hashes: array[int] = array("Q", [place for place, _ in places])
        self.owners: array[int] = array("L", [owner for _, owner in places])
        self.starts: Sequence[int] = _starts(self.hashes, _bits(len(places)))
        self.index: dict[str, int] = {endpoint.address: owner for owner, endpoint in enumerate(endpoints)}


def _bits(size: int) -> int:
    """Return how many leading bits name a stretch of a ring of this size."""
    return max(0, (size // _STRETCH).bit_length() - 1)


def _starts(hashes: Sequence[int], bits: int) -> Sequence[int]:
    """Return where in `hashes` each stretch of the ring begins, and where the last one ends."""
    return array("L", [*(bisect_left(hashes, stretch << (64 - bits)) for stretch in range(2**bits)), len(hashes)])


def _counts(weights: Sequence[float], smallest: int, largest: int) -> list[int]:
    """Return how many places each has. The unit is a power of two, so that a mean that moves a little moves nothing."""
    if not weights:
        return []
    unit = 2.0 ** round(math.log2(sum(weights) / len(weights)))
    places = float(_PLACES)
    while sum(weights) / unit * places < smallest:
        places *= 2
    while sum(weights) / unit * places > largest and places * max(weights) / unit >= 2:
        places /= 2
    return [max(1, round(weight / unit * places)) for weight in weights]


def _places(address: str, number: int) -> list[int]:
    """Return the first places of an address; with more of them the first stay where they are."""
    text = address.encode()
    blocks = (blake2b(b"%s_%d" % (text, block)).digest() for block in range((number + 7) // 8))
    return [place for block in blocks for place in _EIGHT.unpack(block)][:number]


class RingHash(PickerFactory):
    """The factory: it owns the ring.

    Args:
        request_hash_header: the header whose value names the place, lower case; None, or a call without it, is a
            place at random (A76).
        min_ring_size: how many places there are at least, from 1 to 8,388,608.
        max_ring_size: how many there are at most, if one for each address is enough for that; from `min_ring_size`
            to 8,388,608.
        balance_factor: none gets more than this times the average of the calls in flight, and what is over goes to
            the next on the ring; above 1, None for no such bound. Envoy's `hash_balance_factor`, which counts in
            percent.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    reads_weight = False  # the places of the ring stay as they are

    def __init__(
        self,
        *,
        request_hash_header: str | None = None,
        min_ring_size: int = 1,
        max_ring_size: int = 131_072,
        balance_factor: float | None = None,
    ) -> None:
        check_count("RingHash.max_ring_size", max_ring_size, low=1, high=_LARGEST_RING)
        check_count("RingHash.min_ring_size", min_ring_size, low=1, high=max_ring_size)
        if balance_factor is not None:
            check_number("RingHash.balance_factor", balance_factor, above=1)
        self._header = _check_header(request_hash_header)
        self._sizes = (min_ring_size, max_ring_size)
        self._balance_factor = balance_factor
        self._rng = Streams(0).stream("ring_hash")
        self._endpoints: tuple[Endpoint, ...] = ()
        self._ring = Ring((), *self._sizes)
        self._owners: dict[Subchannel, int] = {}
        self.needs_call: bool = self._header is not None

    def seed(self, rng: random.Random) -> None:
        """Draw from this stream from now on."""
        self._rng = rng

    def endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        """Make the ring over these, READY or not."""
        self._endpoints = tuple(endpoints)
        self._ring = Ring(self._endpoints, *self._sizes)
        self._owners = {}

    def build(self, ready: Sequence[Subchannel]) -> RingHashPicker:
        """Return a picker over the places of `ready`."""
        index, known = self._ring.index, self._owners
        if any(sub not in known and sub.address not in index for sub in ready):
            # Whoever has no `endpoints` to tell of: the ring is of those that were ever READY.
            new = {sub.address: sub.endpoint for sub in ready if sub.address not in index}
            self.endpoints((*self._endpoints, *new.values()))
            index = self._ring.index
            known = {}
        # By identity: to look thousands up by their addresses would take most of a change of health.
        self._owners = {sub: known[sub] if sub in known else index[sub.address] for sub in ready}
        return RingHashPicker(self._ring, self._owners, self._header, rng=self._rng, factor=self._balance_factor)


def _check_header(header: object) -> str | None:
    if header is None:
        return None
    is_name = isinstance(header, str) and header and header == header.lower()
    # A76: binary headers cannot be used.
    if not isinstance(header, str) or not is_name or header.endswith("-bin"):
        raise ConfigError(f"RingHash.request_hash_header must be a header in lower case and not binary, not {header!r}")
    return header


class RingHashPicker:
    """Looks the place up, and goes on clockwise past what cannot take the call."""

    __slots__ = ("_draw", "_factor", "_hashes", "_header", "_owners", "_ready", "_shift", "_size", "_starts", "_subs")

    def __init__(
        self,
        ring: Ring,
        owners: Mapping[Subchannel, int],
        header: str | None,
        *,
        rng: random.Random,
        factor: float | None,
    ) -> None:
        subs: list[Subchannel | None] = [None] * len(ring.index)
        for sub, owner in owners.items():
            subs[owner] = sub
        self._subs = subs
        self._ready = tuple(owners)
        self._hashes, self._owners = ring.hashes, ring.owners
        if len(self._ready) * _SPARSE < len(subs):
            # So few that a pick would go past many: here the others' places are left out.
            kept = [subs[owner] is not None for owner in ring.owners]
            self._hashes = array("Q", compress(ring.hashes, kept))
            self._owners = array("L", compress(ring.owners, kept))
        self._size = len(self._hashes)
        self._header = header
        self._draw: Callable[[int], int] = rng.getrandbits
        # Where each stretch of the ring begins: a look-up takes as long on a large ring as on a small one.
        bits = _bits(self._size)
        self._shift = 64 - bits
        self._starts = _starts(self._hashes, bits) if self._hashes is not ring.hashes else ring.starts
        self._factor = factor

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the first READY subchannel from the call's place on that has not been tried."""
        if not self._ready:
            return None
        wanted = self._draw(64) if self._header is None else self._hash(call)
        stretch = wanted >> self._shift
        place = bisect_left(self._hashes, wanted, self._starts[stretch], self._starts[stretch + 1]) % self._size
        sub = self._subs[self._owners[place]]
        if sub is None or call.exclude or self._factor is not None:
            return self._go_on(place, call)
        return sub

    def _hash(self, call: CallInfo) -> int:
        header = self._header
        values = [value for key, value in call.metadata if key == header]
        if values:
            # A76: several values count as one, with commas between.
            return hash_of(b",".join([value.encode() if isinstance(value, str) else value for value in values]))
        return self._draw(64)

    def _go_on(self, place: int, call: CallInfo) -> Subchannel | None:
        """Return the first from `place` on that can take the call; the first READY one where none can."""
        first = None
        seen: dict[int, None] = {}
        while len(seen) < len(self._ready):
            owner = self._owners[place % self._size]
            sub = self._subs[owner]
            place += 1
            if sub is None or owner in seen:
                continue
            if sub.id not in call.exclude and self._has_room(sub):
                return sub
            first = first or sub
            seen[owner] = None
        return first

    def _has_room(self, sub: Subchannel) -> bool:
        if self._factor is None or not sub.load.in_flight:
            return True
        # The average of a sample, evenly over all: the sum over thousands would cost more than it is worth.
        sample = self._ready[:: max(1, len(self._ready) // _SAMPLE)]
        average = (sum(other.load.in_flight for other in sample) + 1) / len(sample)
        return sub.load.in_flight < math.ceil(self._factor * average)
