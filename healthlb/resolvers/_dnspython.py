"""DNS queries by dnspython; imported only where it is installed and needed.

The one rule: every failure leaves as an OSError whose text a user can read.
"""

from __future__ import annotations

import asyncio
import ipaddress

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from healthlb.resolvers._answer import Answer, in_daemon_thread

# Seconds for one query with all its retries, and for one try of it (dnspython's own defaults).
_LIFETIME = 5.0
_TIMEOUT = 2.0
_RECORD_TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)


async def query(host: str, nameserver: tuple[str, int] | None) -> Answer:
    """Ask DNS for the A and AAAA records of a host name.

    One of the two is enough: many names have no AAAA records, and some servers fail on them.

    Args:
        host: a host name; relative to the search domains unless a nameserver is given.
        nameserver: address and port of the only server to ask, or None for resolv.conf's.

    Raises:
        OSError: neither query had an answer.
    """
    try:
        # In a thread, since it reads resolv.conf, or the registry: anew, because they change.
        resolver = await in_daemon_thread(lambda: _make_resolver(nameserver))
    except dns.exception.DNSException as error:
        raise OSError(f"cannot resolve {host!r}: {error}") from error
    results = await asyncio.gather(
        *(resolver.resolve(host, rdtype, lifetime=_LIFETIME, search=nameserver is None) for rdtype in _RECORD_TYPES),
        return_exceptions=True,
    )
    answers = [result for result in results if isinstance(result, dns.resolver.Answer)]
    if not answers:
        raise _failure(host, [result for result in results if isinstance(result, BaseException)])
    return combine(answers)


def combine(answers: list[dns.resolver.Answer]) -> Answer:
    """Return the addresses of all answers, with the shortest TTL on the way to them."""
    return Answer(
        addresses=tuple(record.to_text() for answer in answers for record in answer),
        ttl=float(min(answer.chaining_result.minimum_ttl for answer in answers)),
    )


def _make_resolver(nameserver: tuple[str, int] | None) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=nameserver is None)
    resolver.timeout = _TIMEOUT
    if nameserver is not None:
        address, port = nameserver
        resolver.nameservers = [str(ipaddress.ip_address(address))]
        resolver.port = port
    return resolver


def _failure(host: str, errors: list[BaseException]) -> OSError:
    # "No such name" for the one type says little while the other could not even be asked.
    telling = [error for error in errors if not isinstance(error, dns.resolver.NXDOMAIN | dns.resolver.NoAnswer)]
    cause = (telling or errors)[0]
    failure = OSError(f"cannot resolve {host!r}: {cause}")
    failure.__cause__ = cause
    return failure
