"""What docs/troubleshooting.md shows is what is printed: each mistake is made, in both faces, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

import healthlb
from tests.docs.mistakes import Mistake, Seen, Servers, all_mistakes, make_sync, see_aio, see_sync
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "troubleshooting.md"
ENTRIES = {
    block.remark.removeprefix("mistake: "): " ".join(block.text.split())
    for block in blocks(PAGE)
    if block.remark.startswith("mistake: ")
}
REMEDY = ". What to do: "
# C-core's words change from version to version, ours do not. A system says of a name what its DNS says.
HAS_PAGES_GRPCIO = tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 85)
WORDED_ELSEWHERE = ("name unknown", "name unknown to DNS", "another CA")
OF_CALLS = ("Watches fill the server", "message too big")
IS_READY = ("no health service", "wrong authority", *OF_CALLS)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All servers, for as long as this module runs."""
    servers = Servers(tmp_path_factory.mktemp("mistakes"))
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def mistakes(servers: Servers) -> dict[str, Mistake]:
    """All mistakes."""
    return all_mistakes(servers)


@pytest.fixture(scope="module", params=[see_sync, see_aio], ids=["sync", "aio"])
def seen(request: pytest.FixtureRequest, mistakes: dict[str, Mistake]) -> dict[str, Seen]:
    """What was seen of each in one face."""
    found: dict[str, Seen] = request.param(mistakes)
    return found


def comparable(name: str, text: str) -> str:
    """Return of a text what is the same wherever the tests run."""
    if HAS_PAGES_GRPCIO and name not in WORDED_ELSEWHERE:
        return text
    return text.partition(REMEDY)[2]


def test_the_page_has_every_mistake(mistakes: dict[str, Mistake]) -> None:
    assert list(ENTRIES) == list(mistakes)


@pytest.mark.parametrize("name", ENTRIES)
def test_what_the_page_shows_is_what_is_printed(name: str, seen: dict[str, Seen]) -> None:
    shown, found = ENTRIES[name], seen[name]
    printed = found.warnings[0] if name == "no health service" else found.call

    assert comparable(name, shown) == comparable(name, printed)
    assert REMEDY in shown


@pytest.mark.parametrize("name", ENTRIES)
def test_the_wait_and_one_warning_say_the_same(name: str, seen: dict[str, Seen]) -> None:
    found, remedy = seen[name], ENTRIES[name].partition(REMEDY)[2]

    if name in IS_READY:
        assert found.waited == ""
    else:
        assert found.waited.endswith(REMEDY + remedy)
    if name in OF_CALLS:  # an error of this call, and of no other
        assert found.warnings == []
    else:
        assert [text.partition(REMEDY)[2] for text in found.warnings] == [remedy]


def test_what_the_remedies_say_helps(servers: Servers, mistakes: dict[str, Mistake]) -> None:
    trusting = servers.certificates.channel_credentials()
    token = healthlb.HealthCheck(metadata=lambda: [("authorization", "Bearer t0ken")])
    by_name = {
        "options": [("grpc.ssl_target_name_override", "shop.example")],
        "credentials": servers.misnamed.channel_credentials(),
    }
    mended = {
        "unknown service": Mistake(mistakes["unknown service"].target, "shop.Cart"),
        "unknown service, unchecked": Mistake(mistakes["unknown service"].target, None),
        "plaintext to TLS": Mistake(mistakes["plaintext to TLS"].target, "", {"credentials": trusting}),
        "TLS to plaintext": Mistake(mistakes["TLS to plaintext"].target),
        "another name": Mistake(mistakes["another name"].target, "", by_name),
        "another CA": Mistake(mistakes["another CA"].target, "", {"credentials": trusting}),
        "no client certificate": Mistake(
            mistakes["no client certificate"].target,
            "",
            {"credentials": servers.certificates.channel_credentials(mutual=True)},
        ),
        "message too big": Mistake(
            mistakes["message too big"].target,
            "",
            {"options": [("grpc.max_receive_message_length", 10_000)]},
            bytes(2000),
        ),
    }

    assert {name: make_sync(mistake) for name, mistake in mended.items()} == dict.fromkeys(mended, ("", ""))
    waited = make_sync(Mistake(mistakes["token refused"].target, "", {"health": token}))[1]
    assert waited == ""  # the health service answers; the calls want a token of their own
