"""The options of health checking: the Watch, the heartbeat, and when a lost connection is dialled again."""

from __future__ import annotations

from dataclasses import dataclass, field

from healthlb.config.backoff import Backoff
from healthlb.config.bounds import (
    check_count,
    check_number,
    to_ns,
)
from healthlb.config.metadata import Metadata, MetadataSource, check_metadata
from healthlb.config.stability import FlapDamping
from healthlb.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """How a backend is noticed that hangs or is cut off without a reset.

    A Watch cannot tell: it stays open and silent. So a `Health/Check` goes out now and then over
    the same connection, and any answer at all, an error status included, is a sign of life.

    Attributes:
        interval: seconds of silence before a Check is sent; above 0. With more than 90
            subchannels in a process it stretches to their number / 9 s. Where there is no Watch, the health is asked
            for at this pace, too.
        timeout: seconds to wait for an answer; above 0.
        ping: whether a backend whose Check gets no answer is called by a method that nobody has registered, too, before
            it is taken for hung. A server whose threads are all at work answers that one, with UNIMPLEMENTED, and stays
            in. A healthy fleet is sent none. With it, backends are asked as soon as their calls are silent for longer
            than is usual; without it, when a deadline has passed.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    interval: float = 10.0
    timeout: float = 3.0
    ping: bool = True

    def __post_init__(self) -> None:
        check_number("Heartbeat.interval", self.interval, above=0)
        check_number("Heartbeat.timeout", self.timeout, above=0)
        if not isinstance(self.ping, bool):
            raise ConfigError(f"Heartbeat.ping must be True or False, not {self.ping!r}")

    @property
    def interval_ns(self) -> int:
        """The interval in nanoseconds."""
        return to_ns(self.interval)

    @property
    def timeout_ns(self) -> int:
        """The timeout in nanoseconds."""
        return to_ns(self.timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How the health of each subchannel is followed (gRFC A17 and where we go further).

    Attributes:
        backoff: between Watches that ended without an answer (gRFC A17).
        reconnect: of the connections; shorter than gRPC's own default, which leaves a backend
            out for 14 s after 30 s down.
        metadata: pairs that go with every Watch and Check; or a callable (or coroutine function) without arguments that
            returns them, asked for each Watch and each Check, as tokens expire. See docs/user_code.md.
        watch: False holds no Watch; `Health/Check` is asked at the heartbeat's pace instead. For servers that allow few
            calls or streams at a time.
        first_response_timeout: seconds until a Watch that says nothing counts as failed; above 0.
            A17 has none, so one stuck health service could hold up a whole channel.
        min_restart_interval: seconds; the floor under the "immediate" restart of a Watch that
            answered and ended. Grows with each quick end, forgotten after 10 s of a stable stream.
        heartbeat: a `Heartbeat`, or None for none.
        on_unimplemented: what is done where the server has no Watch. "check" asks `Health/Check` at the heartbeat's
            pace and follows its answers; where that is missing, too, the server counts as healthy. "healthy" (gRFC
            A17) and "unhealthy" ask nothing more.
        rise: how many SERVING in a row bring a subchannel back that was unhealthy; at least 1 (Envoy's
            `healthy_threshold`). The first status on a connection suffices.
        fall: how many other statuses in a row take it out; at least 1 (Envoy's `unhealthy_threshold`).
        confirm_interval: seconds for which a status stands until it counts as said again, for `rise` and `fall`; above
            0. A Watch tells of changes only, so its silence confirms. Where there is no Watch, a Check asks again.
        damping: a `FlapDamping`, or None for none.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    backoff: Backoff = field(default_factory=Backoff)
    reconnect: Backoff = field(default_factory=lambda: Backoff(initial=0.2, maximum=1.0))
    # No part of the repr: it may be a token.
    metadata: Metadata | MetadataSource = field(default=(), repr=False)
    watch: bool = True
    first_response_timeout: float = 10.0
    min_restart_interval: float = 0.1
    heartbeat: Heartbeat | None = field(default_factory=Heartbeat)
    on_unimplemented: str = "check"
    rise: int = 1
    fall: int = 1
    confirm_interval: float = 1.0
    damping: FlapDamping | None = None

    def __post_init__(self) -> None:
        check_number("HealthCheck.first_response_timeout", self.first_response_timeout, above=0)
        check_number("HealthCheck.min_restart_interval", self.min_restart_interval, above=0)
        for name, kind in (("backoff", Backoff), ("reconnect", Backoff)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"HealthCheck.{name} must be a {kind.__name__}, not {getattr(self, name)!r}")
        if self.heartbeat is not None and not isinstance(self.heartbeat, Heartbeat):
            raise ConfigError(f"HealthCheck.heartbeat must be a Heartbeat or None, not {self.heartbeat!r}")
        if not isinstance(self.watch, bool):
            raise ConfigError(f"HealthCheck.watch must be True or False, not {self.watch!r}")
        if self.on_unimplemented not in ("check", "healthy", "unhealthy"):
            raise ConfigError(
                f"HealthCheck.on_unimplemented must be 'check', 'healthy' or 'unhealthy', not {self.on_unimplemented!r}"
            )
        check_count("HealthCheck.rise", self.rise, low=1)
        check_count("HealthCheck.fall", self.fall, low=1)
        check_number("HealthCheck.confirm_interval", self.confirm_interval, above=0)
        if self.damping is not None and not isinstance(self.damping, FlapDamping):
            raise ConfigError(f"HealthCheck.damping must be a FlapDamping or None, not {self.damping!r}")
        if not callable(self.metadata):
            object.__setattr__(self, "metadata", check_metadata("HealthCheck.metadata", self.metadata))

    @property
    def first_response_timeout_ns(self) -> int:
        """The first-response timeout in nanoseconds."""
        return to_ns(self.first_response_timeout)

    @property
    def min_restart_interval_ns(self) -> int:
        """The floor between restarts in nanoseconds."""
        return to_ns(self.min_restart_interval)

    @property
    def confirm_interval_ns(self) -> int:
        """The confirmation interval in nanoseconds."""
        return to_ns(self.confirm_interval)
