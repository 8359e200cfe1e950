"""Which methods may be executed twice: what the caller says, or the method's own protobuf option."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from healthlb import Failover
from healthlb.calls.policy import is_idempotent
from tests.failover.local import Local, fail
from tests.failover.support import InOrder, failure
from tests.parity.face import Face

_OPTIONS = {
    "Unset": None,
    "Unknown": descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN,
    "Look": descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS,
    "Put": descriptor_pb2.MethodOptions.IDEMPOTENT,
}


@pytest.fixture(scope="module", autouse=True)
def _described() -> None:
    """A service that is described in the default pool, as generated modules do it when they are imported."""
    file = descriptor_pb2.FileDescriptorProto(name="healthlb_test_shop.proto", package="healthlb_test", syntax="proto3")
    file.message_type.add(name="Nothing")
    service = file.service.add(name="Shop")
    for name, level in _OPTIONS.items():
        method = service.method.add(
            name=name, input_type=".healthlb_test.Nothing", output_type=".healthlb_test.Nothing"
        )
        if level is not None:
            method.options.idempotency_level = level
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(file.name)
    except KeyError:
        pool.AddSerializedFile(file.SerializeToString())


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("/healthlb_test.Shop/Look", True),
        ("/healthlb_test.Shop/Put", True),
        ("/healthlb_test.Shop/Unset", False),
        ("/healthlb_test.Shop/Unknown", False),
        ("/healthlb_test.Shop/Missing", False),
        ("/healthlb_test.Nobody/Look", False),
        ("/healthlb_test.Shop/Look/More", False),
        ("/healthlb_test.Shop", False),
        ("/Look", False),
        ("", False),
        ("healthlb_test.Shop/Look", True),
    ],
)
def test_the_methods_own_option(method: str, expected: bool) -> None:
    assert is_idempotent(method, None) is expected
    assert is_idempotent(method, True) is True
    assert is_idempotent(method, False) is False


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["/shop.Cart/GetItem"], True),
        (["/shop.Cart/Get*"], True),
        (["/shop.Cart/*"], True),
        (["*"], True),
        (["/shop.*/GetItem"], True),
        (["/shop.Cart/Get?tem"], True),
        (["/shop.Cart/[GP]etItem"], True),
        (["/none/*", "/shop.Cart/*"], True),
        ((), False),
        (["/shop.Cart/Get"], False),
        (["/shop.Cart/get*"], False),
        (["/shop.Cart"], False),
        (["/shop/Cart/GetItem"], False),
    ],
)
def test_patterns(patterns: list[str], expected: bool) -> None:
    assert is_idempotent("/shop.Cart/GetItem", Failover(idempotent=patterns).idempotent) is expected


def test_patterns_win_over_the_option() -> None:
    assert not is_idempotent("/healthlb_test.Shop/Look", ("/other/*",))
    assert is_idempotent("/healthlb_test.Shop/Unset", ("/healthlb_test.Shop/*",))


@pytest.mark.parametrize(("method", "calls"), [("Look", 3), ("Put", 3), ("Unset", 1), ("Unknown", 1)])
def test_a_call_by_default(face: Face, method: str, calls: int) -> None:
    with Local(service="healthlb_test.Shop", names={"unary_unary": method}, unary_unary=_refuse) as server:
        client = face.ready([server.address], None, picker=InOrder)
        made = client.channel.unary_unary(f"/healthlb_test.Shop/{method}")
        error = failure(lambda: client.run(lambda: made(b"", timeout=10)))

        assert len(error.attempts) == server.calls == calls


def _refuse(request: bytes, context: object) -> bytes:
    fail(context)  # type: ignore[arg-type]
    return b""
