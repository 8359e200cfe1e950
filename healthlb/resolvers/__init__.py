"""Where addresses come from: lists, DNS, and resolvers of your own.

The one rule: a resolver says which endpoints there are; whether they are healthy, and what is
kept when it fails, is not its business.
"""

from healthlb.core.messages import Endpoint
from healthlb.resolvers.base import Resolver
from healthlb.resolvers.dns import DnsResolver
from healthlb.resolvers.static import StaticResolver
from healthlb.resolvers.target import Target as Target
from healthlb.resolvers.target import parse_target as parse_target
from healthlb.resolvers.target import register_resolver

__all__ = [
    "DnsResolver",
    "Endpoint",
    "Resolver",
    "StaticResolver",
    "register_resolver",
]
