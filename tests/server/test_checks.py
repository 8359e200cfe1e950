"""The built-in checks against what they check."""

from __future__ import annotations

import contextlib
import http.server
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from healthlb.errors import ConfigError
from healthlb.server import Check
from healthlb.server.checks import (
    HeartbeatCheck,
    Unhealthy,
    cpu_load,
    database,
    disk_space,
    grpc_service,
    http_get,
    memory,
    tcp_connect,
)
from tests.backends.addresses import Reservation, port_of
from tests.backends.clients import eventually
from tests.server.served import Served


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tcp_connect("127.0.0.1", listener.getsockname()[1])()
    with pytest.raises(OSError, match="refused"):
        tcp_connect("127.0.0.1", free_port())()


class Pages(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, *arguments: Any) -> None: ...


@pytest.fixture
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_http(site: str) -> None:
    http_get(f"{site}/200")()
    http_get(f"{site}/404", statuses=(404,))()
    with pytest.raises(Unhealthy, match="/503 answers 503"):
        http_get(f"{site}/503")()
    with pytest.raises(OSError, match="refused"):
        http_get(f"http://127.0.0.1:{free_port()}/")()


def test_http_with_httpx(site: str) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    with httpx.Client() as client:
        http_get(f"{site}/200", client=client)()
        with pytest.raises(Unhealthy, match="/500 answers 500"):
            http_get(f"{site}/500", client=client)()


def test_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database(lambda: sqlite3.connect(path))()
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database(lambda: sqlite3.connect(path), "SELECT 1 FROM missing")()
    with pytest.raises(Unhealthy, match="returned no row"):
        database(lambda: sqlite3.connect(path), "SELECT 1 WHERE 0")()


def test_sqlalchemy() -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    engine = sqlalchemy.create_engine("sqlite://")
    database(engine)()
    with pytest.raises(sqlalchemy.exc.OperationalError):
        database(engine, "SELECT 1 FROM missing")()
    engine.dispose()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """A real PostgreSQL on a port of its own, and what stops it."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if os.name == "posix" else []
    if not folders:
        pytest.skip("PostgreSQL (Debian's postgresql) is not installed")
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    reservation = Reservation(["127.0.0.1:0"])
    port = port_of(reservation.addresses[0])
    data = Path(f"/tmp/healthlb-postgres-{os.getpid()}-{port}")
    data.mkdir()
    identity: dict[str, Any] = {}
    if os.getuid() == 0:
        shutil.chown(data, "postgres")
        identity = {"user": "postgres"}
    run = {"cwd": data, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **identity}
    subprocess.run(
        [folders[-1] / "initdb", "-D", data / "d", "-A", "trust", "-U", "test", "--no-sync"], check=True, **run
    )
    process = subprocess.Popen([folders[-1] / "postgres", "-D", data / "d", "-p", str(port), "-k", data, "-F"], **run)

    def stop() -> None:
        process.terminate()
        process.wait(30)

    try:
        eventually(lambda: _is_open(port))
        yield port, stop
    finally:
        process.kill()
        process.wait()
        reservation.release()
        shutil.rmtree(data)


def _is_open(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_postgresql(postgres: tuple[int, Callable[[], None]]) -> None:
    pg8000 = pytest.importorskip("pg8000.dbapi", reason="pg8000 is not installed")
    port, stop = postgres
    check = database(lambda: pg8000.connect("test", host="127.0.0.1", port=port, database="postgres", timeout=5))
    eventually(lambda: _passes(check))
    stop()

    assert not _passes(check)


def _passes(check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception:
        return False
    return True


def test_another_grpc_service() -> None:
    with closing(Served()) as served:
        check = grpc_service(served.address, "svc")
        with pytest.raises(Unhealthy, match="NOT_FOUND: unknown service"):
            check()
        served.set("svc", 1)
        check()
        served.set("svc", 2)
        with pytest.raises(Unhealthy, match="svc is NOT_SERVING"):
            check()


@pytest.mark.needs("grpcio", "1.83", reason="it waits 20 s after a connection that was accepted and closed")
def test_another_grpc_service_is_tried_again_soon() -> None:
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()
                    accepted.append(None)

        threading.Thread(target=hang_up, daemon=True).start()
        check = grpc_service(f"127.0.0.1:{server.getsockname()[1]}")
        # grpcio's own backoff takes 16 s for the sixth attempt.
        eventually(lambda: not _passes(check) and len(accepted) >= 6)
        server.shutdown(socket.SHUT_RDWR)


def test_disk(tmp_path: Path) -> None:
    disk_space(tmp_path, 1e-6)()
    disk_space(tmp_path, 1024)()
    with pytest.raises(Unhealthy, match=r"MiB free on .*, less than 953674316"):
        disk_space(tmp_path, 1e15)()


def test_memory_and_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil", reason="psutil is not installed")
    memory(1)()
    with pytest.raises(Unhealthy, match="of the memory is in use, more than 0%"):
        memory(1e-6)()
    cpu_load(1e6)()
    with pytest.raises(Unhealthy, match="per processor, more than 1e-09"):
        cpu_load(1e-9)()
    monkeypatch.setitem(__import__("sys").modules, "psutil", None)
    with pytest.raises(ConfigError, match=r'install "healthlb\[checks\]"'):
        memory()


def test_heartbeat() -> None:
    now = [100.0]
    check = HeartbeatCheck(5, clock=lambda: now[0])
    with pytest.raises(Unhealthy, match="never fed"):
        check()
    check.feed()
    now[0] = 105.0
    check()
    now[0] = 105.1
    with pytest.raises(Unhealthy, match=r"last fed 5\.1 s ago, more than 5"):
        check()


def _check_a_connection() -> object:
    """Pass an open connection, and close it, of which Python 3.13 warns else."""
    with closing(sqlite3.connect(":memory:")) as connection:
        return database(connection)


async def _connect() -> None:
    """Open a connection of a library that a check cannot use."""


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: tcp_connect("x", 0), "port must be"),
        (lambda: http_get("ftp://x"), "url must begin with"),
        (lambda: http_get("http://"), "url must have a host"),
        (lambda: http_get("http://[::1/live"), "url must have a host"),
        (lambda: http_get("https://x:99999/live"), "url must have a host"),
        (lambda: disk_space("/", 0), "min_free must be"),
        (lambda: memory(2), "max_used must be"),
        (lambda: HeartbeatCheck(0), "within must be"),
        (lambda: grpc_service("x", timeout=0), "timeout must be"),
        (lambda: database(lambda name: None), "source must be callable without arguments, .*missing.*'name'"),
        (lambda: database("x.db"), r"database\(lambda: sqlite3.connect\('x.db'\)\)"),
        (_check_a_connection, "source must be a function"),
        (lambda: database(_connect), "source must be a function"),
        (lambda: database(sqlite3.connect, None), "query must be a string"),  # type: ignore[arg-type]
        (lambda: tcp_connect(None, 80), "host must be a string"),  # type: ignore[arg-type]
        (lambda: http_get(None), "url must be a string"),  # type: ignore[arg-type]
        (lambda: http_get("http://x", 200), "statuses must be a container"),  # type: ignore[arg-type]
        (lambda: http_get("http://x", "200"), "statuses must be a container"),  # type: ignore[arg-type]
        (lambda: http_get("http://x", headers=["a"]), "headers must be a mapping"),  # type: ignore[arg-type]
        (lambda: http_get("http://x", client="httpx"), "client must be an httpx.Client"),
        (lambda: disk_space(None), "path must be a string"),  # type: ignore[arg-type]
        (lambda: grpc_service(7), "target must be an address"),  # type: ignore[arg-type]
        (lambda: grpc_service("x", None), "service must be a string"),  # type: ignore[arg-type]
        (lambda: Check(probe=lambda it: None), "without arguments"),
        (lambda: Check(probe=disk_space), "without arguments"),
    ],
)
def test_bad_options_are_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()
