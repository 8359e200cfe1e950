"""`healthlb watch` and `healthlb list` against real servers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from healthlb.cli.app import cli
from tests.backends.backend import Backend
from tests.backends.certs import make_certificates
from tests.server.served import Served

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "healthlb.cli", "watch", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    record: dict[str, Any] = json.loads(process.stdout.readline())
    return record


def test_watch_follows_several_servers_until_interrupted() -> None:
    with closing(Served()) as first, closing(Served()) as second:
        first.set("svc", 1)
        process = start(first.address, second.address, "--service", "svc", "--json")
        begun = {record["address"]: record["status"] for record in (read(process), read(process))}

        assert begun == {first.address: "SERVING", second.address: "SERVICE_UNKNOWN"}
        second.set("svc", 2)
        record = read(process)
        assert (record["address"], record["service"], record["status"]) == (second.address, "svc", "NOT_SERVING")
        first.close_servicer()
        assert read(process)["status"] == "NOT_SERVING"
        record = read(process)
        assert (record["status"], record["details"]) == ("UNAVAILABLE", "the server is shutting down")
        first.resume()
        assert read(process)["status"] == "SERVING"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, output, errors) == (0, "", "")


def test_watch_prints_lines_for_people() -> None:
    with closing(Served()) as served:
        process = start(served.address)
        assert process.stdout is not None
        line = process.stdout.readline().split()
        process.kill()
        process.communicate()

    assert line[1:] == [served.address, "SERVING"]


def test_list_shows_every_service() -> None:
    with closing(Served()) as served:
        served.set("shop.Cart", 2)
        result = CliRunner().invoke(cli, ["list", served.address])
        as_json = CliRunner().invoke(cli, ["list", served.address, "--json"])

    assert (result.exit_code, result.output) == (0, '""         SERVING\nshop.Cart  NOT_SERVING\n')
    assert json.loads(as_json.output) == {"": "SERVING", "shop.Cart": "NOT_SERVING"}


def test_list_of_a_server_without_list_fails() -> None:
    with Backend(name="b0") as backend:
        result = CliRunner().invoke(cli, ["list", backend.address])

    assert result.exit_code == 3
    assert result.output.startswith(f"{backend.address}: UNIMPLEMENTED: ")


def test_list_over_tls(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    ca = str(certificates.ca.certificate_path)
    with Backend(name="b0", options={"tls": certificates.server_options()}) as backend:
        result = CliRunner().invoke(cli, ["list", backend.address, "--tls", "--tls-ca-cert", ca])

    assert "UNIMPLEMENTED" in result.output
    assert CliRunner().invoke(cli, ["list", "x:1", "--tls-ca-cert", ca]).exit_code == 2


def test_probe_stands_in_the_help() -> None:
    assert "probe" in CliRunner().invoke(cli, ["--help"]).output
    assert CliRunner().invoke(cli, ["probe", "-addr="]).exit_code == 1
