"""What a user sees of healthlb: its names, their docs and types, and channels that generated stubs take."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import grpc.aio
import pytest

import healthlb
import healthlb.aio
from healthlb.config import ChannelConfig
from tests.backends.clients import tasks_of

PATIENCE = 20.0
FACES = (healthlb, healthlb.aio)
TARGETS = (
    ["127.0.0.1:1", "localhost:2", "[::1]:3", "unix:/tmp/nobody.sock"],
    "dns:///nobody.invalid:50051",
    "nobody.invalid:50051",
    "ipv4:127.0.0.1:1,127.0.0.1:2",
    "ipv6:[::1]:1",
    "unix:/tmp/nobody.sock",
)
# What only one face has: of the server, the sync things live in healthlb.server.
ONLY_AIO = {"HealthServicer", "serve_until_signal"}


# --- names ---------------------------------------------------------------------------------------------


def test_faces_mirror_each_other() -> None:
    assert set(healthlb.aio.__all__) - set(healthlb.__all__) == ONLY_AIO
    assert set(healthlb.__all__) - set(healthlb.aio.__all__) == set()


def test_names_mean_the_same_in_both_faces() -> None:
    different = {name for name in healthlb.__all__ if getattr(healthlb, name) is not getattr(healthlb.aio, name)}

    assert different == {"HealthAwareChannel", "HealthClient", "follow_state"}


def test_no_public_name_is_that_of_a_module_as_well() -> None:
    # Whoever imported the module would have it in the place of what it defines.
    modules = {f"{face.__name__}.{name}" for face in FACES for name in face.__all__}

    assert [name for name in modules if importlib.util.find_spec(name)] == []


@pytest.mark.parametrize("method", ["__init__", "check", "ask", "list", "watch", "close"])
def test_health_clients_take_the_same_arguments(method: str) -> None:
    sync, aio = (inspect.signature(getattr(face.HealthClient, method)).parameters for face in FACES)

    assert {name: one.default for name, one in aio.items()} == {name: one.default for name, one in sync.items()}


@pytest.mark.parametrize("face", FACES)
def test_all_is_sorted_and_complete(face: ModuleType) -> None:
    assert sorted(face.__all__) == face.__all__
    assert [name for name in face.__all__ if not hasattr(face, name)] == []


def _entries(cls: type, section: str) -> dict[str, str]:
    """Return what a docstring's section says of each name."""
    text = (inspect.getdoc(cls) or "").split(f"{section}:\n", 1)[1].split("\n\n", 1)[0]
    found = re.split(r"^    (\w+): ", text, flags=re.MULTILINE)[1:]
    return {name: " ".join(said.split()) for name, said in zip(found[::2], found[1::2], strict=True)}


@pytest.mark.parametrize("face", FACES)
def test_channels_say_of_an_option_what_the_config_says(face: ModuleType) -> None:
    options = _entries(ChannelConfig, "Attributes")
    said = _entries(face.HealthAwareChannel, "Args")

    assert set(options) == {option.name for option in dataclasses.fields(ChannelConfig)}
    assert {name: said[name] for name in options} == options


def test_channels_take_the_same_arguments() -> None:
    sync, aio = (inspect.signature(face.HealthAwareChannel).parameters for face in FACES)

    assert list(aio) == list(sync)
    assert all(sync[name].default == aio[name].default for name in sync)
    assert {name for name in sync if sync[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD} == {
        "target",
        "service",
    }


def test_channels_have_the_same_methods() -> None:
    def own(face: ModuleType, base: type) -> set[str]:
        return {name for name in dir(face.HealthAwareChannel) if not name.startswith("_") and not hasattr(base, name)}

    assert own(healthlb, grpc.Channel) == own(healthlb.aio, grpc.aio.Channel)


def test_errors_are_what_callers_catch() -> None:
    assert issubclass(healthlb.ConfigError, healthlb.HealthLBError)
    assert issubclass(healthlb.ConfigError, ValueError)
    assert issubclass(healthlb.ChannelClosed, ValueError)
    assert issubclass(healthlb.ChannelUnusable, RuntimeError)


# --- docs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_everything_public_is_documented(face: ModuleType) -> None:
    bare = []
    for name in face.__all__:
        thing = getattr(face, name)
        bare += [] if inspect.getdoc(thing) else [name]
        if not inspect.isclass(thing):
            continue
        for member, value in vars(thing).items():
            is_public = not member.startswith("_") and (callable(value) or isinstance(value, property))
            bare += [f"{name}.{member}"] if is_public and not inspect.getdoc(value) else []

    assert bare == []


@pytest.mark.parametrize("face", FACES)
def test_the_channel_documents_every_argument(face: ModuleType) -> None:
    doc = inspect.getdoc(face.HealthAwareChannel) or ""

    assert [
        name for name in inspect.signature(face.HealthAwareChannel).parameters if f"\n    {name}: " not in doc
    ] == []


# --- the constructor -----------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_channels_are_grpcs(face: ModuleType) -> None:
    channel = face.HealthAwareChannel(["127.0.0.1:1"])

    assert isinstance(channel, grpc.Channel if face is healthlb else grpc.aio.Channel)


QUIET = """
    import socket, sys, threading
    def audit(event, arguments):
        if event.startswith(("socket.", "open", "subprocess.", "os.")) and armed:
            print("I/O:", event, arguments, flush=True)
    armed = []
    import asyncio, grpc, grpc.aio, healthlb, healthlb.aio
    from healthlb import *
    from healthlb.aio import *
    def descriptors():
        import os
        return len(os.listdir("/proc/self/fd"))
    # The first of a process reads the modules that `import healthlb` leaves to it.
    for face in (healthlb, healthlb.aio):
        first = face.HealthAwareChannel(["a:1"])
        for arity in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            getattr(first, arity)("/a/b")
        first.state(), first.subchannels()
    sys.addaudithook(audit)
    before = descriptors(), threading.active_count()
    armed.append(True)
    kept = []
    for face in (healthlb, healthlb.aio):
        for target in TARGETS:
            channel = face.HealthAwareChannel(target, "svc", listeners=[print], options=[("grpc.x", 1)])
            channel.unary_unary("/a/b")
            channel.unary_stream("/a/b")
            channel.stream_unary("/a/b")
            channel.stream_stream("/a/b")
            channel.state(), channel.subchannels(), repr(channel)
            kept.append(channel)
    armed.clear()
    assert (descriptors(), threading.active_count()) == before
    assert asyncio._get_running_loop() is None
    print("quiet")
"""


def test_constructor_does_no_io_and_starts_no_thread() -> None:
    script = textwrap.dedent(QUIET).replace("TARGETS", repr(TARGETS))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("quiet\n", "")


async def test_constructor_makes_no_task() -> None:
    before = tasks_of()
    for target in TARGETS:
        healthlb.aio.HealthAwareChannel(target)

    assert tasks_of() == before


# --- stubs ---------------------------------------------------------------------------------------------

PROTO = """
syntax = "proto3";
package healthlb_public_api_test;

message Word { string text = 1; }

service Talk {
  rpc Unary(Word) returns (Word);
  rpc ServerStream(Word) returns (stream Word);
  rpc ClientStream(stream Word) returns (Word);
  rpc Bidi(stream Word) returns (stream Word);
}
"""


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Return the modules that grpc_tools makes of a service with all four kinds of methods."""
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools makes the stubs")
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "talk.proto").write_text(PROTO)
    out = str(folder)
    assert protoc.main(["", f"-I{out}", f"--python_out={out}", f"--grpc_python_out={out}", "talk.proto"]) == 0
    sys.path.insert(0, out)
    try:
        yield importlib.import_module("talk_pb2"), importlib.import_module("talk_pb2_grpc")
    finally:
        sys.path.remove(out)


@pytest.fixture
def server(talk: tuple[Any, Any]) -> Iterator[str]:
    """Serve it; return the address."""
    messages, services = talk

    class Talk(services.TalkServicer):  # type: ignore[misc,name-defined]
        def Unary(self, request: Any, context: object) -> Any:
            return messages.Word(text=request.text.upper())

        def ServerStream(self, request: Any, context: object) -> Iterator[Any]:
            return (messages.Word(text=letter) for letter in request.text)

        def ClientStream(self, requests: Iterator[Any], context: object) -> Any:
            return messages.Word(text="".join(request.text for request in requests))

        def Bidi(self, requests: Iterator[Any], context: object) -> Iterator[Any]:
            return (messages.Word(text=request.text.upper()) for request in requests)

    running = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    services.add_TalkServicer_to_server(Talk(), running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}"
    running.stop(None).wait(PATIENCE)


def test_generated_stub(talk: tuple[Any, Any], server: str) -> None:
    messages, services = talk
    word = messages.Word
    with healthlb.HealthAwareChannel([server]) as channel:
        stub = services.TalkStub(channel)
        letters = [word(text=letter) for letter in "abc"]

        assert stub.Unary(word(text="abc"), timeout=PATIENCE) == word(text="ABC")
        assert stub.Unary.future(word(text="abc")).result(PATIENCE) == word(text="ABC")
        assert stub.Unary.with_call(word(text="abc"))[0] == word(text="ABC")
        assert [each.text for each in stub.ServerStream(word(text="abc"))] == ["a", "b", "c"]
        assert stub.ClientStream(iter(letters)) == word(text="abc")
        assert [each.text for each in stub.Bidi(iter(letters))] == ["A", "B", "C"]


async def test_generated_stub_aio(talk: tuple[Any, Any], server: str) -> None:
    messages, services = talk
    word = messages.Word

    async def letters() -> AsyncIterator[Any]:
        for letter in "abc":
            yield word(text=letter)

    async with healthlb.aio.HealthAwareChannel([server]) as channel:
        stub = services.TalkStub(channel)

        assert await stub.Unary(word(text="abc"), timeout=PATIENCE) == word(text="ABC")
        assert [each.text async for each in stub.ServerStream(word(text="abc"))] == ["a", "b", "c"]
        assert await stub.ClientStream(letters()) == word(text="abc")
        assert [each.text async for each in stub.Bidi(letters())] == ["A", "B", "C"]


def test_generated_stub_names_registered_methods(talk: tuple[Any, Any]) -> None:
    """Else the tests above would not show that `_registered_method` is passed on (grpcio 1.63 and later)."""
    assert "_registered_method=True" in Path(talk[1].__file__).read_text()


def test_stub_class_of_an_old_generator(server: str, talk: tuple[Any, Any]) -> None:
    word = talk[0].Word

    class OldStub:
        def __init__(self, channel: grpc.Channel) -> None:
            self.Unary: Any = channel.unary_unary(
                "/healthlb_public_api_test.Talk/Unary",
                request_serializer=word.SerializeToString,
                response_deserializer=word.FromString,
            )

    with healthlb.HealthAwareChannel([server]) as channel:
        assert OldStub(channel).Unary(word(text="abc"), timeout=PATIENCE) == word(text="ABC")


def test_stock_helpers_take_the_channel(server: str, talk: tuple[Any, Any]) -> None:
    messages, services = talk
    seen: list[str] = []

    class Spy(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            seen.append(client_call_details.method)
            return continuation(client_call_details, request)

    with healthlb.HealthAwareChannel([server]) as channel:
        grpc.channel_ready_future(channel).result(PATIENCE)
        stub = services.TalkStub(grpc.intercept_channel(channel, Spy()))

        assert stub.Unary(messages.Word(text="abc")) == messages.Word(text="ABC")
    assert seen == ["/healthlb_public_api_test.Talk/Unary"]


# --- types ---------------------------------------------------------------------------------------------

TYPED = '''
"""Right and wrong uses, as marked."""

import asyncio
from collections.abc import Callable, Sequence

import grpc
import grpc.aio

import healthlb
import healthlb.aio


class First:
    def build(self, ready: Sequence[healthlb.Subchannel]) -> "First":
        return self

    def pick(self, call: healthlb.CallInfo) -> healthlb.Subchannel | None:
        return None


class Last(healthlb.PickerFactory):
    needs_call = False

    def build(self, ready: Sequence[healthlb.Subchannel]) -> healthlb.Picker:
        return First().build(ready)


class Misnamed(healthlb.PickerFactory):
    def build(self, ready: int) -> healthlb.Picker:  # WRONG
        return First()


class Fixed:
    async def resolve(self, update: Callable[[Sequence[healthlb.Endpoint]], None]) -> None:
        update([healthlb.Endpoint("a:1", weight=2.0)])


class NoFactory:
    pass


def use(channel: grpc.Channel) -> None: ...


async def use_aio(channel: grpc.aio.Channel) -> None: ...


use(healthlb.HealthAwareChannel(["a:1"], "svc", picker=First))
healthlb.HealthAwareChannel("dns:///a:1", None, picker="pick_first", health=healthlb.HealthCheck(heartbeat=None))
healthlb.HealthAwareChannel(Fixed(), options=[("grpc.x", 1)], listeners=[print])
healthlb.HealthAwareChannel([healthlb.Endpoint("a:1"), "b:2"], failover=None)
healthlb.HealthAwareChannel(["a:1"], overload=healthlb.Overload(max_wait=3, max_in_flight=100))
healthlb.register_picker("first", First)
healthlb.register_picker("last", Last)
healthlb.HealthAwareChannel(["a:1"], "svc", **healthlb.presets.resilient(idempotent=True))
healthlb.HealthAwareChannel(["a:1"], picker=lambda: healthlb.pickers.RingHash(request_hash_header="x-user"))


def on_fact(fact: healthlb.facts.Fact) -> None:
    match fact:
        case healthlb.facts.StateChange(address=address, reason=reason):
            print(address.upper(), reason.upper())
        case healthlb.facts.Panic(is_over=is_over):
            print(not is_over)


healthlb.register_resolver("fixed", lambda uri: Fixed())
with healthlb.HealthAwareChannel(["a:1"]) as channel:
    state: grpc.ChannelConnectivity = channel.state()
    addresses: list[str] = [status.address for status in channel.subchannels()]
    channel.wait_until_ready(1.0, min_ready=2)
    channel.add_listener(on_fact)
client = healthlb.HealthClient("a:1")
status: healthlb.ServingStatus = client.check("svc")


async def main() -> None:
    async with healthlb.aio.HealthAwareChannel(["a:1"], interceptors=[]) as channel:
        await use_aio(channel)
        await channel.wait_until_ready(1.0)


asyncio.run(main())

healthlb.HealthAwareChannel(7)  # WRONG
healthlb.HealthAwareChannel(["a:1"], 7)  # WRONG
healthlb.HealthAwareChannel(["a:1"], "svc", "round_robin")  # WRONG
healthlb.HealthAwareChannel(["a:1"], picker=7)  # WRONG
healthlb.HealthAwareChannel(["a:1"], picker=NoFactory)  # WRONG
healthlb.HealthAwareChannel(["a:1"], health=healthlb.Heartbeat())  # WRONG
healthlb.HealthAwareChannel(["a:1"], interceptors=7)  # WRONG
healthlb.HealthAwareChannel(["a:1"], overload=100)  # WRONG
healthlb.Overload(max_waiting=0.5)  # WRONG
healthlb.HealthCheck(10.0)  # WRONG
healthlb.Backoff(initial="1")  # WRONG
healthlb.register_picker("none", NoFactory)  # WRONG
healthlb.presets.resilent()  # WRONG
healthlb.facts.StateChanged  # WRONG
client.check("svc").nonsense  # WRONG
healthlb.HealthAwareChannel(["a:1"]).add_listener(lambda fact: fact.nonsense)  # WRONG
use(healthlb.aio.HealthAwareChannel(["a:1"]))  # WRONG only with grpcio's types
healthlb.HealthAwareChannel(["a:1"]).wait_until_ready("1")  # WRONG
'''


# Without types-grpcio, grpcio's own types are unknown. A user has to say so, or mypy fails at `import grpc`.
WITHOUT_STUBS = ("--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent")


@pytest.mark.parametrize("options", [(), WITHOUT_STUBS], ids=["types-grpcio", "none"])
def test_types_as_a_user_sees_them(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Under `mypy --strict`, right uses pass and each wrong one is found."""
    pytest.importorskip("mypy", reason="mypy checks the types")
    file = tmp_path / "typed.py"
    file.write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", *options, str(file)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=Path(__file__).parents[1],
    )
    wrong = ("# WRONG",) if options else ("# WRONG", "# WRONG only with grpcio's types")
    expected = {number for number, line in enumerate(TYPED.splitlines(), 1) if line.endswith(wrong)}
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}

    assert found == expected, done.stdout + done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(healthlb.__file__).parent / "py.typed").exists()
