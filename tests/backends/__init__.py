"""Real grpcio servers for tests, each in a process of its own, and a proxy that breaks connections.

    with Backend(name="b0", services=("svc",)) as backend:
        channel = grpc.insecure_channel(backend.address)
        channel.unary_unary("/test.Echo/Unary")(b"", metadata=(("x-id", "1"),))     # b"b0"
        backend.set("NOT_SERVING", "svc")
        backend.kill(); backend.restart()                                           # the same port
        assert backend.stats().ids == {"1": 1}                                      # survives the kill

    backends = start_backends(3)          # b0, b1, b2, in parallel

A backend is steered by `set`, `behave`, `kill`, `stop`, `begin_stop`, `pause`, `resume`, `restart` and looked into by
`stats`; `close` (or the end of the test process, however it ends) leaves nothing behind.

The service is /test.Echo, bytes in and bytes out, for clients without serializers:

- Unary answers the backend's name. ServerStream sends `<name>:0`, `<name>:1` ... ClientStream answers
  `<name>:<number of messages>`. Bidi sends each message back behind `<name>:`.
- Request metadata steers a call: `x-sleep` (seconds), `x-fail` (a status code's name) with `x-details`, `x-id` (counted
  in `Stats.ids`), `x-echo: 1` (answer the request), `x-trailer` (comes back as trailing metadata), `x-pushback` (comes
  back as `grpc-retry-pushback-ms`), `x-report` (queries per second and CPU utilization, `100,0.5`, come back as a load
  report of ORCA, in its binary form and as text), `x-count` and `x-interval` (ServerStream), `x-headers: 1` (initial metadata first).
- `x-backend: <name>` comes as initial metadata (with the answer, unless `x-headers`; a failing call has none, as with
  most servers) and always as trailing metadata.

Kinds, by what their health service does:

- "sync" (grpc.server) and "aio" (grpc.aio.server): grpcio-health-checking's own servicer.
- "no_health": none, so UNIMPLEMENTED. "hung_check": Watch works, Check never answers.
- "silent_watch": Watch never answers. "answer_once": Watch says one status and ends with OK.
- "watch_error": Watch says `messages` (0) statuses and ends with `code` ("INTERNAL"), `after` (0) seconds.
- "garbage": Watch sends what is no HealthCheckResponse and stays open.
- "scripted_watch": Watch sends `statuses` (numbers, also unknown ones) and stays open; `set` sends more.
- "max_age": "sync" with `max_connection_age_ms` and `max_connection_age_grace_ms`.

Options of every kind: `args` (channel arguments, a list of pairs), `workers` (32; not "aio"), `tls`
(`certs.Certificates.server_options()`), `require_metadata` (a key and a value without which every call is
UNAUTHENTICATED), `hosts` (a list of addresses to listen on: "127.0.0.1:0", "[::1]:0", "unix:"), `ports` (how many
ports on `host`), `bare_health` ("sync" only: do not work around the deadlock of grpcio-health-checking's `set`).
"""

from tests.backends.backend import KINDS, Backend, Stats, start_backends
from tests.backends.process import BackendError

__all__ = ["KINDS", "Backend", "BackendError", "Stats", "start_backends"]
