"""What is fuzzed: one function for each reader of foreign bytes. It returns, or what it raises is a fault.

The one rule: the documented error is swallowed here and nothing else, so that whatever comes out is a finding.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from healthlb.config.service_config import parse_service_config
from healthlb.control.health_messages import decode_list, decode_response
from healthlb.core.call.call_attempts import parse_pushback
from healthlb.core.pickers.orca import parse_report, report_of
from healthlb.errors import ConfigError
from healthlb.resolvers._dnspython import combine
from healthlb.resolvers.addresses import parse_endpoints
from healthlb.resolvers.dns import endpoints_of, hosts_of
from healthlb.resolvers.target import parse_target
from healthlb.simulation.checks.expression import Expression, ExpressionError
from healthlb.simulation.scenario_files.scenario_file import parse_scenario
from healthlb.simulation.scenario_files.table import ScenarioError
from healthlb.text import printable

Target = Callable[[bytes], None]

_SHOP = dns.name.from_text("shop.prod.")
_QUERY = dns.message.make_query(_SHOP, dns.rdatatype.A, id=1)


def orca(data: bytes) -> None:
    """Load reports in trailing metadata, binary and text."""
    parse_report(data)
    report_of([("endpoint-load-metrics-bin", data)])
    report_of([("endpoint-load-metrics", data.decode("utf-8", "replace"))])


def pushback(data: bytes) -> None:
    """Values of grpc-retry-pushback-ms."""
    parse_pushback([data])
    parse_pushback(data.decode("utf-8", "replace").split(","))


def health(data: bytes) -> None:
    """Messages of the health service."""
    for decode in (decode_response, decode_list):
        try:
            decode(data)
        except ValueError:
            continue


def service_config(data: bytes) -> None:
    """Service configs, in JSON."""
    try:
        parse_service_config(data.decode("utf-8", "replace"))
    except ConfigError as error:
        _check_text(error)


def dns_answer(data: bytes) -> None:
    """Messages of a DNS server, in the form of the wire."""
    try:
        message = dns.message.from_wire(data)
        if not _QUERY.is_response(message):
            return  # dnspython takes no other message for an answer.
        answer = dns.resolver.Answer(_SHOP, dns.rdatatype.A, dns.rdataclass.IN, message)  # type: ignore[arg-type]
    except dns.exception.DNSException:
        return
    found = combine([answer])
    endpoints_of(hosts_of(found.addresses), 50051)


def addresses(data: bytes) -> None:
    """Targets, and the addresses that a resolver gives."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_target, lambda entries: parse_endpoints(entries.split(","))):
        try:
            parse(text)
        except ConfigError as error:
            _check_text(error)


def scenario(data: bytes) -> None:
    """Scenario files, in TOML."""
    try:
        content = tomllib.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return
    try:
        parse_scenario(content, "fuzzed.toml")
    except ScenarioError as error:
        _check_text(error)


def expression(data: bytes) -> None:
    """Expressions in the checks of scenarios."""
    try:
        Expression(data.decode("utf-8", "replace")).value({"p": 1.0, "x": 0.0}, {"abs": abs})
    except ExpressionError as error:
        _check_text(error)


def foreign_text(data: bytes) -> None:
    """Texts of others, for logs, reasons and the terminal."""
    shown = printable(data.decode("utf-8", "surrogateescape"))
    assert shown.isprintable()
    assert len(shown) <= 400


def _check_text(error: BaseException) -> None:
    assert len(str(error)) < 100_000


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (orca, pushback, health, service_config, dns_answer, addresses, scenario, expression, foreign_text)
}
