from tests.parity.fleet import addresses
from tests.parity.face import ARITIES
import pytest
@pytest.mark.parametrize("arity", ARITIES)
def test_x(face, fleet, arity):
    bs = fleet.lend(3)
    c = face.ready(addresses(bs))
    assert {c.call() for _ in range(3)} == {"b0","b1","b2"}
    n = face.native(addresses(bs))
    n.call()
    o = c.start(arity)
    if arity.endswith("unary"): print(o.result())
    else: print(o.drain())
    assert o.code().name == "OK"
    print(c.subchannels(), c.facts.seen)
