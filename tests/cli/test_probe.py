"""`healthlb probe` against real servers, with the flags and exit codes of grpc_health_probe."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization

from healthlb.cli import probe
from healthlb.cli.flags import format_duration, parse_duration
from healthlb.server import HealthServicer
from tests.backends.backend import Backend
from tests.backends.certs import Certificates, make_certificates
from tests.health_client.raw import RawHealth
from tests.server.served import Served

Probe = Callable[..., tuple[int, str]]
LONG = ("-connect-timeout=15s", "-rpc-timeout=15s")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Probe:
    def run(*arguments: str) -> tuple[int, str]:
        code = probe.main(arguments)
        return code, capsys.readouterr().err.strip()

    return run


class Recorder(grpc.ServerInterceptor):
    """Keeps the metadata of calls."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.metadata = dict(details.invocation_metadata)
        return continuation(details)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def address(recorder: Recorder) -> Iterator[str]:
    servicer = HealthServicer()
    for service, status in {"up": 1, "down": 2, "unknown": 0, "x" * 300: 1}.items():
        servicer.set(service, status)
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[recorder])
    servicer.add_to_server(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_serving_is_0(run: Probe, address: str) -> None:
    assert run(f"-addr={address}", *LONG) == (0, "status: SERVING")
    assert run("--addr", address, "--service", "up", *LONG) == (0, "status: SERVING")
    assert run("-addr", address, "-service=" + "x" * 300, *LONG) == (0, "status: SERVING")


def test_another_status_is_4(run: Probe, address: str) -> None:
    assert run("-addr", address, "-service=down", *LONG) == (4, 'service unhealthy (responded with "NOT_SERVING")')
    assert run("-addr", address, "-service=unknown", *LONG) == (4, 'service unhealthy (responded with "UNKNOWN")')


def test_an_unknown_service_is_3(run: Probe, address: str) -> None:
    assert run("-addr", address, "-service=never", *LONG) == (
        3,
        "error: health rpc failed: NOT_FOUND: unknown service\n"
        "What to do: the server does not know the service 'never': healthlb list shows those that it has, where the "
        "server has List",
    )


def test_no_connection_is_2(run: Probe) -> None:
    assert run("-addr=127.0.0.1:1", "-connect-timeout=300ms") == (
        2,
        'timeout: failed to connect service "127.0.0.1:1" within 300ms\n'
        "What to do: nothing listens there: check that the server is up, and its address and port",
    )


def test_no_health_service_is_3(run: Probe) -> None:
    with Backend(name="b0", kind="no_health") as backend:
        code, text = run("-addr", backend.address, *LONG)

    assert (code, text) == (
        3,
        "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): Method not found!\n"
        "What to do: the server has no health service (grpc.health.v1.Health): add one to it",
    )


def test_no_answer_is_3(run: Probe) -> None:
    with Backend(name="b0", kind="hung_check") as backend:
        code, text = run("-addr", backend.address, "-connect-timeout=15s", "-rpc-timeout=300ms")

    first, second = text.splitlines()
    assert (code, first) == (3, "timeout: health rpc did not complete within 300ms")
    assert second.startswith("What to do: nothing was answered in time")
    assert second.endswith("a slow one needs a longer -rpc-timeout")


BAD = {
    (): "error: -addr not specified",
    ("-addr",): "error: flag needs an argument: -addr",
    ("-adr=x",): "error: flag provided but not defined: -adr",
    ("localhost:1",): "error: -addr not specified",
    ("--", "-addr=x"): "error: -addr not specified",
    ("-",): "error: -addr not specified",
    ("---addr=x",): "error: bad flag syntax: ---addr=x",
    ("-=x",): "error: bad flag syntax: -=x",
    ("-adr", "-h"): "error: flag provided but not defined: -adr",
    ("-addr=x", "-connect-timeout=0"): "error: -connect-timeout must be greater than zero (specified: 0s)",
    ("-addr=x", "-rpc-timeout=-1s"): "error: -rpc-timeout must be greater than zero (specified: -1s)",
    ("-addr=x", "-rpc-timeout=5"): "error: invalid value '5' for flag -rpc-timeout: "
    'it must be a duration such as "300ms" or "1m30s"',
    ("-addr=x", "-rpc-timeout=99999999h"): "error: invalid value '99999999h' for flag -rpc-timeout: "
    "it must be a duration of at most 292 years",
    ("-addr=x", "-tls=maybe"): "error: invalid boolean value 'maybe' for -tls",
    ("-addr=x", "-rpc-header=x"): "error: invalid value 'x' for flag -rpc-header: it must be in the form 'name: value'",
    ("-addr=x", "-tls-ca-cert=y"): "error: specified -tls-ca-cert without specifying -tls",
    ("-addr=x", "-tls-no-verify"): "error: specified -tls-no-verify without specifying -tls",
    ("-addr=x", "-tls", "-tls-client-cert=y"): "error: specified -tls-client-cert without specifying -tls-client-key",
    ("-addr=x", "-tls", "-tls-client-key=y"): "error: specified -tls-client-key without specifying -tls-client-cert",
    ("-addr=x", "-tls", "-tls-no-verify", "-tls-ca-cert=y"): (
        "error: cannot specify -tls-ca-cert with -tls-no-verify (it would not be used)"
    ),
}


@pytest.mark.parametrize(("arguments", "text"), BAD.items())
def test_bad_arguments_are_1(run: Probe, arguments: tuple[str, ...], text: str) -> None:
    assert run(*arguments) == (1, text)


def test_what_follows_the_flags_is_ignored(run: Probe, address: str) -> None:
    for end in ("extra", "-", "--"):
        assert run("-addr", address, *LONG, end, "-service=down") == (0, "status: SERVING")


def test_headers_and_the_user_agent_go_along(run: Probe, recorder: Recorder, address: str) -> None:
    code, _ = run("-addr", address, "-rpc-header=X-Key: a:b", "--rpc-header", "other:1", "-user-agent=me", *LONG)

    assert code == 0
    assert (recorder.metadata["x-key"], recorder.metadata["other"]) == ("a:b", "1")
    assert recorder.metadata["user-agent"].startswith("me ")


def test_binary_headers(run: Probe, recorder: Recorder, address: str) -> None:
    assert run("-addr", address, "-rpc-header=k-bin: \x01\u00e9", *LONG) == (0, "status: SERVING")
    assert recorder.metadata["k-bin"] == b"\x01\xc3\xa9"


@pytest.mark.parametrize(
    ("header", "named"),
    {
        "bad name: token": "bad name: ...",
        ": token": ": ...",
        ":token": ": ...",
        ": token:x": ": ...",
        ":path: token": ":path: ...",
        " name:token": " name: ...",
        "k: \x01token": "k: ...",
        "k: tokené": "k: ...",
    }.items(),
)
def test_metadata_that_cannot_be_sent_are_1(run: Probe, header: str, named: str) -> None:
    """Before it connects to a server that is not there, and without the value."""
    assert run("-addr=127.0.0.1:1", f"-rpc-header={header}", *LONG) == (
        1,
        f"error: invalid value {named!r} for flag -rpc-header: it must be a name of letters, digits, '_', '.' and '-', a "
        "colon and a value of printable ASCII; of any characters where the name ends in '-bin'",
    )


@pytest.mark.parametrize("flag", ["service=", "rpc-header=k:", "rpc-header=k-bin:"])
def test_what_utf8_cannot_hold_is_1(run: Probe, flag: str) -> None:
    code, text = run("-addr=127.0.0.1:1", f"-{flag}\udcff", *LONG)

    assert (code, text.endswith("it must be text in UTF-8")) == (1, True), text


def test_timeouts_beyond_what_grpc_can_count(run: Probe, address: str) -> None:
    assert run("-addr", address, "-connect-timeout=2562047h47m16.854775807s", "-rpc-timeout=2562047h") == (
        0,
        "status: SERVING",
    )


def test_the_scheme_passthrough(run: Probe, address: str) -> None:
    assert run("-addr", f"passthrough:///{address}", *LONG) == (0, "status: SERVING")


def test_gzip(run: Probe, address: str) -> None:
    assert run("-addr", address, "-gzip", "-service=" + "x" * 300, *LONG) == (0, "status: SERVING")


def test_v_says_more(run: Probe, address: str) -> None:
    code, text = run("-addr", address, "-v=true", *LONG)

    assert code == 0
    assert text.splitlines()[0].startswith(f"parsed options: addr={address} service=")
    assert text.splitlines()[-1] == "status: SERVING"


def test_version_and_help(run: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-version") == (0, "")
    code, text = run("-help")
    assert code == 1
    for flag in probe.FLAGS:
        assert f"  -{flag}\n        {probe.FLAGS[flag].usage}" in text
    assert "\\" not in text


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("health.test",))


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("-tls-ca-cert={ca}", "-tls-server-name=health.test"), 0),
        (("-tls-ca-cert={ca}",), 2),
        (("-tls-ca-cert={ca}", "-tls-server-name=other.test"), 2),
        (("-tls-server-name=health.test",), 2),
        (("-tls-no-verify",), 0),
    ],
)
def test_tls(run: Probe, certificates: Certificates, flags: tuple[str, ...], code: int) -> None:
    with Backend(name="b0", options={"tls": certificates.server_options()}) as backend:
        filled = [flag.format(ca=certificates.ca.certificate_path) for flag in flags]
        timeout = "-connect-timeout=15s" if code == 0 else "-connect-timeout=500ms"

        assert run("-addr", backend.address, "-tls", *filled, timeout, "-rpc-timeout=15s")[0] == code


@pytest.mark.parametrize("host", ["127.0.0.1", "unix:"])
def test_no_verify_takes_an_expired_certificate(run: Probe, tmp_path: Path, host: str) -> None:
    expired = make_certificates(tmp_path, ("health.test",), is_expired=True)
    settings: dict[str, Any] = {} if host == "unix:" else {"port": 0}
    with Backend(name="b0", host=host, options={"tls": expired.server_options()}, **settings) as backend:
        trusting = (f"-tls-ca-cert={expired.ca.certificate_path}", "-tls-server-name=health.test")

        assert run("-addr", backend.address, "-tls", *trusting, "-connect-timeout=500ms")[0] == 2
        assert run("-addr", backend.address, "-tls", "-tls-no-verify", *LONG) == (0, "status: SERVING")


@pytest.mark.parametrize("flags", [("-tls",), ("-tls", "-tls-no-verify")])
def test_tls_with_a_server_that_has_none_is_2(run: Probe, address: str, flags: tuple[str, ...]) -> None:
    code, text = run("-addr", address, *flags, "-connect-timeout=500ms")

    first, second = text.splitlines()
    assert (code, first) == (2, f'timeout: failed to connect service "{address}" within 500ms')
    assert second.startswith("What to do: the server ")


@pytest.mark.parametrize(
    "flags",
    [
        ("-tls-ca-cert=/no/such",),
        ("-tls-ca-cert={bad}",),
        ("-tls-client-cert=/no/such", "-tls-client-key={key}"),
        ("-tls-client-cert={certificate}", "-tls-client-key={bad}"),
        ("-tls-client-cert={bad}", "-tls-client-key={key}", "-tls-no-verify"),
        ("-tls-client-cert={certificate}", "-tls-client-key={other}"),
        ("-tls-client-cert={certificate}", "-tls-client-key={locked}"),
    ],
)
def test_bad_files_are_1(run: Probe, certificates: Certificates, tmp_path: Path, flags: tuple[str, ...]) -> None:
    bad, locked = tmp_path / "bad.pem", tmp_path / "locked.pem"
    bad.write_text("no PEM")
    key = serialization.load_pem_private_key(certificates.client.key, None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    locked.write_bytes(key.private_bytes(*form))
    paths = {
        "bad": bad,
        "locked": locked,
        "certificate": certificates.client.certificate_path,
        "key": certificates.client.key_path,
        "other": certificates.server.key_path,
    }
    code, text = run("-addr=127.0.0.1:1", "-tls", *(flag.format(**paths) for flag in flags))

    assert code == 1
    assert text.startswith("failed to initialize tls credentials. error=")


@pytest.mark.parametrize("trust", [("-tls-ca-cert={ca}", "-tls-server-name=health.test"), ("-tls-no-verify",)])
def test_mutual_tls(run: Probe, certificates: Certificates, trust: tuple[str, ...]) -> None:
    client = (
        f"-tls-client-cert={certificates.client.certificate_path}",
        f"-tls-client-key={certificates.client.key_path}",
    )
    trusting = [flag.format(ca=certificates.ca.certificate_path) for flag in trust]
    with Backend(name="b0", options={"tls": certificates.server_options(mutual=True)}) as backend:
        assert run("-addr", backend.address, "-tls", *trusting, *client, *LONG) == (0, "status: SERVING")
        assert run("-addr", backend.address, "-tls", *trusting, "-connect-timeout=500ms")[0] == 2


def test_a_port_alone_is_this_host(run: Probe, address: str) -> None:
    assert run("-addr", ":" + address.rpartition(":")[2], *LONG) == (0, "status: SERVING")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("1m30s", 90), ("1.5h", 5400), ("100ms", 0.1), ("-2us", -2e-6), ("0", 0), (".5s", 0.5)],
)
def test_durations_are_those_of_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["300ms", "1.5s", "1m30s", "1h0m0s", "-2µs", "1ns", "0s", "999ms", "25h0m0.5s"])
def test_durations_are_written_as_go_does(text: str) -> None:
    assert format_duration(parse_duration(text)) == text


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "1d", "1s2", "--1s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"", 4, 'service unhealthy (responded with "UNKNOWN")'),
        (b"\x08\x09", 4, 'service unhealthy (responded with "serving status 9")'),
        (b"\x08\x01\x10\x01", 0, "status: SERVING"),  # a field that a later version may have
        (b"\xff", 3, "error: health rpc failed: not a HealthCheckResponse"),
    ],
)
def test_odd_answers(run: Probe, answer: bytes, code: int, said: str) -> None:
    with RawHealth() as server:
        server.answers["Check"] = answer
        exit_code, shown = run(f"-addr={server.address}", *LONG)

    assert (exit_code, shown[: len(said)]) == (code, said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("phase", "code"), [("connect", 2), ("rpc", 3)])
def test_a_signal_ends_it(number: signal.Signals, phase: str, code: int) -> None:
    with contextlib.ExitStack() as stack:
        if phase == "rpc":
            backend = stack.enter_context(Backend(name="b0", kind="hung_check"))
            address = backend.address
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            address = f"127.0.0.1:{listener.getsockname()[1]}"
        command = (sys.executable, "-m", "healthlb.cli", "probe", "-addr", address, "-v")
        process = subprocess.Popen(
            (*command, "-connect-timeout=60s", "-rpc-timeout=60s"), stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        wanted = "establishing connection\n" if phase == "connect" else "connection established"
        assert any(line.startswith(wanted) for line in process.stderr)
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]

    assert (process.returncode, said.splitlines()[0]) == (code, f"cancellation received (signal: {number.name})")


def test_grpcs_own_log_is_silent(tmp_path: Path) -> None:
    with closing(Served()) as served:
        command = (sys.executable, "-m", "healthlb.cli", "probe", "-addr", served.address, "-tls")
        environment = {key: value for key, value in os.environ.items() if key != "GRPC_VERBOSITY"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stderr) == (
        2,
        f'timeout: failed to connect service "{served.address}" within 1s\n'
        "What to do: the server does not speak TLS on this port: leave out -tls, or switch TLS on in the server\n",
    )


def test_the_command_runs_without_click() -> None:
    code = (
        "import sys; sys.modules.update(click=None, rich=None); sys.argv[1:] = ['probe', '-version'];"
        "from healthlb.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_probe_itself_imports_grpc_and_the_standard_library_only() -> None:
    folder = Path(probe.__file__).parent
    code = f"""
import sys, types, grpc
before = set(sys.modules)
for name in ("healthlb", "healthlb.cli"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{str(folder.parent)!r}]
sys.modules["healthlb.cli"].__path__ = [{str(folder)!r}]
import healthlb.cli.probe
added = {{name.split(".")[0] for name in set(sys.modules) - before}} - {{"healthlb"}}
print(sorted(added - sys.stdlib_module_names))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert ended.stdout == "[]\n"


def test_the_page_shows_what_happens() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "probe.md").read_text()
    shown = "".join(re.findall(r"^```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    commands = re.findall(r"^\$ (.*)$", shown, re.MULTILINE)
    with closing(Served()) as served:
        served.set("shop.Cart", 2)
        played = ""
        for command in commands:
            real = re.sub(r"^healthlb", f"{sys.executable} -m healthlb.cli", command)
            real = real.replace("127.0.0.1:50051", served.address) + " 2>&1"
            real = real.replace("; echo $? 2>&1", " 2>&1; echo $?")
            if served.address in real and "probe" in real:
                real = real.replace("probe", "probe -connect-timeout=15s -rpc-timeout=15s", 1)
            ended = subprocess.run(["sh", "-c", real], capture_output=True, text=True, timeout=60, check=False)
            played += f"$ {command}\n{ended.stdout}"

    assert len(commands) == 6
    assert played == shown


def test_the_page_names_every_flag() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "probe.md").read_text()

    assert set(re.findall(r"`-([a-z][a-z-]*)`", page)) == set(probe.FLAGS) | {"alts", "spiffe", "help"}
