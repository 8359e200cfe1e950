"""Real DNS servers on loopback whose records change while they run.

Two kinds with one interface: dnsmasq, where it is installed, and a small server on dnspython,
which can also be told to fail. Both count the queries they see.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.backends.addresses import bind_free

Records = Mapping[str, Sequence[str]]
_PATIENCE = 10.0  # seconds
_LOOPBACK = "127.0.0.1"


class DnsServer:
    """What both kinds do: publish records, count queries, stop."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._changed = threading.Condition()
        self._queries: Counter[tuple[str, str]] = Counter()

    @property
    def address(self) -> str:
        """Where it listens, as `ip:port`."""
        return f"{_LOOPBACK}:{self.port}"

    def publish(self, records: Records) -> None:
        """Replace all records; returns when the next query will see the new ones."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop it; queries are then refused by the operating system."""
        raise NotImplementedError

    def queries(self, name: str, rdtype: str = "A") -> int:
        """How many queries of this type for this name have come so far."""
        with self._changed:
            return self._queries[name, rdtype]

    def wait_for_queries(self, name: str, count: int, rdtype: str = "A") -> None:
        """Wait until at least `count` such queries have come."""
        self._wait(lambda: self._queries[name, rdtype] >= count, f"{count} queries for {name} {rdtype}")

    def _count(self, name: str, rdtype: str) -> None:
        with self._changed:
            self._queries[name, rdtype] += 1
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, _PATIENCE):
                raise TimeoutError(f"not within {_PATIENCE:g} s: {what}")


class Dnsmasq(DnsServer):
    """dnsmasq, authoritative for `.test`, its records in a hosts file that SIGHUP makes it read again."""

    def __init__(self, records: Records, *, ttl: int = 0, port: int = 0) -> None:
        super().__init__(port or _free_port())
        self._folder = tempfile.TemporaryDirectory(prefix="dnsmasq")
        self._hosts = Path(self._folder.name, "records")
        self._reads = 0
        self._stderr_lines: list[str] = []
        self._hosts.write_text(_hosts_text(records))
        self._process = subprocess.Popen(self._command(ttl), stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._follow, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        self._wait_for_read(1)

    @staticmethod
    def is_installed() -> bool:
        """Whether this machine has dnsmasq."""
        return _dnsmasq_path() is not None

    def publish(self, records: Records) -> None:
        with self._changed:
            seen = self._reads
        self._hosts.write_text(_hosts_text(records))
        self._process.send_signal(signal.SIGHUP)
        self._wait_for_read(seen + 1)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(_PATIENCE)
        self._folder.cleanup()

    def _command(self, ttl: int) -> list[str]:
        path = _dnsmasq_path()
        assert path is not None, "dnsmasq is not installed"
        user = ["--user=root"] if os.geteuid() == 0 else []
        return [
            path, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-", "--log-queries",
            f"--port={self.port}", f"--listen-address={_LOOPBACK}", "--bind-interfaces", "--no-resolv", "--no-hosts",
            "--local=/test/", f"--addn-hosts={self._hosts}", f"--local-ttl={ttl}", *user,
        ]  # fmt: skip

    def _wait_for_read(self, count: int) -> None:
        try:
            self._wait(lambda: self._reads >= count or self._process.poll() is not None, "dnsmasq reads its records")
        finally:
            if self._process.poll() is not None:
                raise RuntimeError("dnsmasq ended: " + " / ".join(self._stderr_lines[-3:]))

    def _follow(self, stderr: IO[str]) -> None:
        with stderr:
            for line in stderr:
                words = line.split()
                # dnsmasq: query[A] name from address; dnsmasq: read path - 3 names
                if len(words) > 2 and words[1].startswith("query["):
                    self._count(words[2], words[1].removeprefix("query[").removesuffix("]"))
                elif len(words) > 2 and words[1:3] == ["read", str(self._hosts)]:
                    with self._changed:
                        self._reads += 1
                        self._changed.notify_all()
                else:
                    self._stderr_lines.append(line.strip())
        self._process.wait()
        with self._changed:
            self._changed.notify_all()


class ScriptedServer(DnsServer):
    """A small server in a thread; `script` makes it fail for one record type."""

    def __init__(self, records: Records, *, ttl: int = 0, port: int = 0) -> None:
        self._records = dict(records)
        self._ttl = ttl
        self._failures: dict[str, str] = {}
        answer = self._answer

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, reply_socket = self.request
                reply = answer(data)
                if reply is not None:
                    reply_socket.sendto(reply, self.client_address)

        self._server = socketserver.UDPServer((_LOOPBACK, port), Handler)
        super().__init__(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def publish(self, records: Records) -> None:
        self._records = dict(records)

    def script(self, rdtype: str, failure: str | None) -> None:
        """Answer queries of this type with an rcode, "SILENCE" or "NODATA"; None: with the records."""
        if failure is None:
            self._failures.pop(rdtype, None)
        else:
            self._failures[rdtype] = failure

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(_PATIENCE)
        self._server.server_close()

    def _answer(self, data: bytes) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        rdtype = dns.rdatatype.to_text(question.rdtype)
        self._count(name, rdtype)
        failure = self._failures.get(rdtype)
        if failure == "SILENCE":
            return None
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        texts = [text for text in self._records.get(name, ()) if _type_of(text) == rdtype]
        if failure is None and texts:
            reply.answer.append(dns.rrset.from_text(question.name, self._ttl, "IN", rdtype, *texts))
        elif failure is None and name not in self._records:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif failure not in (None, "NODATA"):
            reply.set_rcode(dns.rcode.from_text(failure))
        return reply.to_wire()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait (blocking) for what no server can tell; raise TimeoutError after 10 s."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_PATIENCE:g} s: {what}")
        time.sleep(0.005)


def _dnsmasq_path() -> str | None:
    # Debian has it in a folder that is not on an ordinary user's path.
    return shutil.which("dnsmasq", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _free_port() -> int:
    """Return a port that is free for UDP and TCP alike."""
    for _ in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            bind_free(udp, (_LOOPBACK, 0))
            port: int = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind((_LOOPBACK, port))
                return port
    raise RuntimeError("no port is free for both UDP and TCP")


def _hosts_text(records: Records) -> str:
    return "".join(f"{address} {name}\n" for name, addresses in records.items() for address in addresses)


def _type_of(address: str) -> str:
    return "A" if ipaddress.ip_address(address).version == 4 else "AAAA"
