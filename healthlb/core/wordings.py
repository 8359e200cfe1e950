"""How remedies name what to change: arguments of a channel or a client, or flags of a command.

The sentences stand in `remedies`, and hold these in their place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The words for one kind of caller, each as the end of a sentence.

    Attributes:
        plaintext: to speak no TLS.
        tls: to speak TLS.
        client_certificate: to show a certificate.
        roots: to trust another CA.
        server_name: to take a certificate of another name.
        authority: to be routed by another name.
        limits: where the limits of a message's size are options.
        token: to say who asks.
        names: where the names of a server's services are told; only those that ask have it, and what follows.
        poll: what needs no Watch.
        timeout: what says how long an answer may take.
    """

    plaintext: str
    tls: str
    client_certificate: str
    roots: str
    server_name: str
    authority: str
    limits: str
    token: str
    names: str = ""
    poll: str = ""
    timeout: str = ""


CHANNEL = Wording(
    plaintext="leave out credentials=...",
    tls="pass credentials=grpc.ssl_channel_credentials(...)",
    client_certificate="pass private_key and certificate_chain to grpc.ssl_channel_credentials",
    roots="pass that CA's certificate to grpc.ssl_channel_credentials(root_certificates=...)",
    server_name='use that name as target, or pass options=[("grpc.ssl_target_name_override", name)]',
    authority='pass options=[("grpc.default_authority", name)] with the name that it routes by, or add a route for '
    "this one",
    limits="options=[...] of the channel",
    token="pass its token with health=HealthCheck(metadata=...), as a callable where tokens expire, or as call "
    "credentials with credentials=...",
)
"""A HealthAwareChannel."""

CLIENT = replace(
    CHANNEL,
    limits="options=[...] of the client",
    token="pass its token with metadata=..., or as call credentials with credentials=...",
    names="list() tells those that it has, where the server has List",
    poll="use check() now and then instead of watch()",
    timeout="timeout=...",
)
"""A health client that opens a channel of its own."""

GIVEN = replace(
    CLIENT,
    plaintext="open the channel with grpc.insecure_channel",
    tls="open the channel with grpc.secure_channel and grpc.ssl_channel_credentials(...)",
    limits=CHANNEL.limits,
    token="pass its token with metadata=..., or as call credentials of the channel",
)
"""A health client over a channel that it was given."""

COMMAND = Wording(
    plaintext="leave out --tls",
    tls="pass --tls",
    client_certificate="pass --tls-client-cert and --tls-client-key",
    roots="pass that CA's certificate with --tls-ca-cert",
    server_name="use that name as address, or pass it with --tls-server-name",
    authority="ask the server itself, past the proxy, or add a route for this name",
    limits="options=[...] of a healthlb.HealthClient",
    token="pass its token with --header 'authorization: Bearer ...'",
    names="healthlb list shows those that it has, where the server has List",
    poll="use healthlb probe now and then",
    timeout="--timeout",
)
"""`healthlb list` and `healthlb watch`."""

PROBE = Wording(
    plaintext="leave out -tls",
    tls="pass -tls",
    client_certificate="pass -tls-client-cert and -tls-client-key",
    roots="pass that CA's certificate with -tls-ca-cert, or -tls-no-verify",
    server_name="use that name as address, or pass it with -tls-server-name",
    authority=COMMAND.authority,
    limits=COMMAND.limits,
    token="pass its token with -rpc-header 'authorization: Bearer ...'",
    names=COMMAND.names,
    poll=COMMAND.poll,
    timeout="-rpc-timeout",
)
"""`healthlb probe`."""
