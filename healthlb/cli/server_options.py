"""How `healthlb watch` and `healthlb list` reach a server: the options they share.

Nothing is decided here; an answer or a status goes to whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc

from healthlb.cli.arguments import name_of_header, parse_header, read_tls_files

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _parse_headers(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(map(_parse_header, values))


def _parse_header(value: str) -> tuple[str, str | bytes]:
    try:
        return parse_header(value)
    except ValueError as error:
        raise click.BadParameter(f"{name_of_header(value)!r}: it must be {error}") from None


def client_options(command: _Command) -> _Command:
    """Add --tls and what goes with it, and --header."""
    path = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in (
        click.option(
            "--header", multiple=True, callback=_parse_headers, help="Metadata, 'name: value'; may be repeated."
        ),
        click.option("--tls-server-name", default="", help="The name that the server's certificate must have."),
        click.option("--tls-client-key", type=path, help="File of the client's key."),
        click.option("--tls-client-cert", type=path, help="File of the client's certificate."),
        click.option("--tls-ca-cert", type=path, help="File of certificates to trust."),
        click.option("--tls", is_flag=True, help="Use TLS instead of plaintext."),
    ):
        command = option(command)
    return command


def client_arguments(tls: bool, header: Sequence[tuple[str, str | bytes]], **files: Any) -> dict[str, Any]:
    """Return the keyword arguments of a `HealthClient`.

    Args:
        tls: whether to use TLS.
        header: metadata that go with every call.
        files: the other options of `client_options`.

    Raises:
        click.UsageError: an option of TLS without --tls, or a certificate without its key.
        ConfigError: a file cannot be read, or used for TLS.
    """
    given = [name for name, value in files.items() if value]
    if not tls:
        if given:
            raise click.UsageError(f"--{given[0].replace('_', '-')} needs --tls")
        return {"metadata": header}
    if bool(files["tls_client_cert"]) != bool(files["tls_client_key"]):
        raise click.UsageError("--tls-client-cert and --tls-client-key need each other")
    roots, key, certificate = read_tls_files(files["tls_ca_cert"], files["tls_client_key"], files["tls_client_cert"])
    name = files["tls_server_name"]
    options = (("grpc.ssl_target_name_override", name),) if name else ()
    credentials = grpc.ssl_channel_credentials(roots, key, certificate)
    return {"credentials": credentials, "options": options, "metadata": header}
