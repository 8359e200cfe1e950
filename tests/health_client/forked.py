"""A program that uses a health client, forks, and uses it in the child, too; a plain channel there is the reference."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import grpc

import healthlb

SERVING = healthlb.ServingStatus.SERVING


def checked(check: Callable[[], object]) -> str:
    """Return what a check says, or how it fails."""
    try:
        check()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code.name
    return "SERVING"


def plain(address: str) -> str:
    """Return what a fresh channel of grpcio's own hears: not every version of grpcio works after a fork."""
    with grpc.insecure_channel(address) as channel:
        return checked(lambda: channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10.0))


def main(address: str) -> None:
    """Print what the child found."""
    client = healthlb.HealthClient(address)
    heard: list[healthlb.ServingStatus] = []
    assert client.check("svc") is SERVING
    statuses = client.watch("svc")
    assert next(statuses) is SERVING
    client.watch("svc", callback=heard.append)
    child = os.fork()
    if child == 0:
        try:
            next(statuses)
        except healthlb.ChannelUnusable as error:
            print(str(error)[:41], flush=True)
        found = checked(lambda: client.check("svc", 10.0, require_serving=True))
        watched = next(client.watch("svc")).name if found == "SERVING" else found
        print({found, watched} == {plain(address)}, flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), client.check("svc").name)
    client.close()


main(sys.argv[1])
