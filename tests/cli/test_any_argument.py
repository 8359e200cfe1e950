"""Whatever the command line is given: a sentence and exit code 2, or its work; never a traceback.

The commands and their options are click's own lists, so a new one is tried as well.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from healthlb.cli import probe
from healthlb.cli.app import cli
from healthlb.cli.checked import Number
from healthlb.simulation.commands.command import simulate
from tests.backends.certs import Certificates, make_certificates

ESCAPE = "\x1b[2J\x1b]0;t\x07"
SURROGATE = b"\xff\xfe".decode(errors="surrogateescape")
# None of these is any argument's value.
REFUSED = [SURROGATE, ESCAPE, "a\nb", "x" * 100_000]
NUMBERS = ["", "nan", "inf", "-inf", "-1", "1e400", "9" * 30, "9" * 5000, "0x10", "1,5", "text"]
TEXTS = ["", "-1", "nan", "9" * 5000, "a:b:c", "\u202e", "é", "/dev/zero", "/dev/stdin", "/no/such", "{}", "x" * 5000]
FILES = ["", "/dev/zero", "/dev/random", "/no/such", "/", ".", "x" * 5000, "{binary}", "{empty}", "{large}"]

# What a command needs beside the value that is tried, to end soon; None: its numbers alone are looked at, since it
# starts processes.
QUICK: dict[str, list[str] | None] = {
    "list": ["127.0.0.1:1", "--timeout", "0.2"],
    "watch": ["127.0.0.1:1"],
    "demo": None,
    "run": ["f1-crash-flap", "--reps", "1", "--until", "1ms"],
    "compare": ["no-such-scenario"],
    "sweep": None,
    "fuzz": ["--worlds", "0"],
    "replay": ["1"],
    "validate": None,
    "calibrate": None,
    "probe": None,  # see below: it has flags of its own
}


def commands() -> dict[str, tuple[list[str], click.Command]]:
    context = click.Context(cli)
    found = {name: ([name], command) for name, command in cli.commands.items() if name != "simulate"}
    for name in simulate.list_commands(context):
        command = simulate.get_command(context, name)
        assert command is not None
        found[name if name not in found else f"simulate {name}"] = (["simulate", name], command)
    return found


def options() -> Iterator[tuple[str, click.Parameter]]:
    for name, (_, command) in commands().items():
        for parameter in command.params:
            if not getattr(parameter, "is_flag", False) and name != "probe":
                yield name, parameter


OPTIONS = list(options())
IDS = [f"{name}-{parameter.name}" for name, parameter in OPTIONS]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    contents = {"binary": bytes(range(256)), "empty": b"", "large": b"# secret\n" * 600_000}
    for name, content in contents.items():
        (folder / f"{name}.toml").write_bytes(content)
    return {name: str(folder / f"{name}.toml") for name in contents}


def run(arguments: list[str]) -> Result:
    return CliRunner().invoke(cli, arguments)


def check(result: Result, *, refused: bool) -> None:
    """A sentence, fit for a terminal, and exit code 2; or whatever comes of a value that can be meant."""
    shown = "".join(traceback.format_exception(result.exception)) if result.exception else ""
    assert result.exception is None or isinstance(result.exception, SystemExit), shown
    assert not refused or result.exit_code == 2, (result.exit_code, result.output[-500:])
    lines = result.output.splitlines()
    assert max(map(len, lines), default=0) < 1100
    assert not [one for one in result.output if not (one.isprintable() or one == "\n")], ascii(result.output)[:300]
    if result.exit_code == 2:
        assert len([line for line in lines if line.startswith("Error: ")]) == 1, result.output


@pytest.fixture(autouse=True)
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes with the first line of `watch`, which would go on for ever."""

    def interrupt(self: object, status: str, details: str, remedy: str = "") -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("healthlb.cli.watch._Lines._say", interrupt)


def given(name: str, parameter: click.Parameter, value: str) -> list[str]:
    path, _ = commands()[name]
    if isinstance(parameter, click.Argument):
        return [*path, *(QUICK.get(name) or [])[1:], "--", value]
    return [*path, *(QUICK.get(name) or []), f"{parameter.opts[-1]}={value}"]


def test_every_command_is_in_the_table() -> None:
    assert set(commands()) == {*QUICK, "simulate list"}


@pytest.mark.parametrize(("name", "parameter"), OPTIONS, ids=IDS)
def test_text_that_is_none_is_refused(name: str, parameter: click.Parameter) -> None:
    for value in REFUSED:
        check(run(given(name, parameter, value)), refused=True)


@pytest.mark.parametrize(("name", "parameter"), OPTIONS, ids=IDS)
def test_every_number_has_bounds(name: str, parameter: click.Parameter) -> None:
    kind = parameter.type
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        assert isinstance(kind, click.IntRange | Number), "a whole number is an IntRange, another one a Number"
        assert None not in (kind.min, kind.max)
        for value in (value for value in NUMBERS if value != "-1" or kind.min > -1):  # type: ignore[operator]
            check(run(given(name, parameter, value)), refused=True)


@pytest.mark.parametrize(("name", "parameter"), OPTIONS, ids=IDS)
def test_any_text_ends_in_a_sentence(
    name: str, parameter: click.Parameter, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if QUICK.get(name, []) is None:
        return
    monkeypatch.chdir(tmp_path)
    for value in dict.fromkeys((*TEXTS, *FILES, *NUMBERS)):
        if value == parameter.default:
            continue
        if parameter.name in ("output", "html", "csv") and value not in FILES:
            continue  # it would be written
        check(run(given(name, parameter, value.format(**files) if value in FILES else value)), refused=False)


def test_files_of_tls_are_read_with_a_bound(files: dict[str, str]) -> None:
    for name in ("list", "watch"):
        for value in FILES[1:]:
            arguments = [name, "127.0.0.1:1", "--tls", "--tls-ca-cert", value.format(**files)]
            check(run(arguments), refused=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"))


def test_tls_files_that_fit_are_taken(certificates: Certificates) -> None:
    ca, client = certificates.ca, certificates.client
    pair = ["--tls-client-cert", str(client.certificate_path), "--tls-client-key", str(client.key_path)]

    result = run(["list", "127.0.0.1:1", "--timeout=0.2", "--tls", "--tls-ca-cert", str(ca.certificate_path), *pair])

    assert (result.exit_code, "127.0.0.1:1: " in result.output) == (3, True), result.output


SWEEP = 'schema = 1\nname = "s"\nscenario = "f1-crash-flap"\n[[axis]]\nname = "x"\npath = "seed"\nvalues = [1]\n'
PLACES = ("", "x", "x:99999999", "x:0", "[::1", "[::1]", "[::1:1", "::1]:1", "::1:1", "[x]:1", "[]:1", "x y:1", "u@x:1")
EXECUTORS = ("", *(f"dask://{place}" for place in PLACES))


def test_sweeps_that_cannot_be_run_or_kept(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SWEEP)
    (tmp_path / "file").touch()
    odd = [[value.format(**files)] for value in FILES]
    odd += [[str(tmp_path / "s.toml"), f"--out={tmp_path}/file/x", "--executor=inline"]]
    odd += [[str(tmp_path / "s.toml"), f"--executor={url}"] for url in (*EXECUTORS, "é")]
    odd += [[str(tmp_path / "s.toml"), f"--out={tmp_path}/out", "--cell=é"]]
    for arguments in odd:
        check(run(["simulate", "sweep", *arguments]), refused=True)


def test_lines_of_files_that_a_scenario_names_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("root:secret:1\n")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for name in ("shadow", "fifo", "/dev/zero", "/dev/random", "no-such", "."):
        for load in (f'trace = "{name}"', "rate = 10\nsize = 1"):
            service = '"1ms"' if "trace" in load else f'{{ dist = "empirical", file = "{name}" }}'
            text = f"[[backend]]\ncount = 1\nservice = {service}\n[[client]]\n[client.load]\n{load}\n"
            (tmp_path / "s.toml").write_text(text)
            result = run(["simulate", "run", str(tmp_path / "s.toml")])

            check(result, refused=True)
            assert name.rpartition("/")[2] in result.output
            assert "secret" not in result.output


@pytest.mark.parametrize("name", sorted(probe.FLAGS))
def test_any_flag_of_the_probe(
    name: str, files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit codes are grpc_health_probe's: 1 is a bad argument, 2 no connection."""
    is_file = name in ("tls-ca-cert", "tls-client-cert", "tls-client-key")
    base = ["-addr=127.0.0.1:1", "-connect-timeout=50ms", *(["-tls"] if name.startswith("tls") else [])]
    base += {
        "tls-client-cert": [f"-tls-client-key={files['empty']}"],
        "tls-client-key": [f"-tls-client-cert={files['empty']}"],
    }.get(name, [])
    for value in (*REFUSED, *NUMBERS, *TEXTS[:8], *(FILES if is_file else [])):
        code = probe.main([*base, f"-{name}={value.format(**files) if is_file and value in FILES else value}"])
        text = capsys.readouterr().err

        # Whatever UTF-8 can hold may be the name of a service.
        refusing = (1, 2) if name == "service" and value != SURROGATE else (1,)
        assert code in (refusing if value in REFUSED else (1, 2)), (code, value)
        assert "Traceback" not in text
        assert not [one for one in text if not (one.isprintable() or one == "\n")], ascii(text)
        first, *others = text.splitlines()
        assert first
        assert not others or (code == 2 and len(others) == 1 and others[0].startswith("What to do: "))
        assert max(map(len, (first, *others))) < 1100
