"""What queues and fleets must do by theory: closed forms that simulations are checked against.

No function here knows the simulator. Times are in units of the mean service time unless an argument says
otherwise, and `rho` is the load of one slot: arrivals per slot times the mean service time, at least 0 and below 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def littles_law(rate: float, time: float) -> float:
    """Return how many are inside on average, L = lambda W (Little, 1961); of any system in balance."""
    return rate * time


def erlang_b(c: int, a: float) -> float:
    """Return the share of calls that `c` slots without a queue refuse (M/G/c/c, Erlang, 1917).

    Args:
        c: slots.
        a: offered load in slots: arrivals times the mean service time.
    """
    blocked = 1.0
    for slots in range(1, c + 1):
        blocked = a * blocked / (slots + a * blocked)
    return blocked


def erlang_c(c: int, a: float) -> float:
    """Return the share of calls that have to wait for one of `c` slots (M/M/c, Erlang, 1917); 1 from a = c on.

    Args:
        c: slots.
        a: offered load in slots: arrivals times the mean service time.
    """
    if a >= c:
        return 1.0
    blocked = erlang_b(c, a)
    return c * blocked / (c - a * (1 - blocked))


def waits_longer(servers: int, rho: float, time: float) -> float:
    """Return the share of M/M/c customers that wait for longer than `time`, in units of the mean service (Erlang C)."""
    return erlang_c(servers, servers * rho) * math.exp(-servers * (1 - rho) * time)


def mmc_mean(c: int, rho: float) -> float:
    """Return the mean time in M/M/c: the service and C(c, c rho) / (c (1 - rho)) of waiting."""
    return 1 + erlang_c(c, c * rho) / (c * (1 - rho))


def mm1_mean(rho: float) -> float:
    """Return the mean time in M/M/1, 1 / (1 - rho)."""
    return 1 / (1 - rho)


def mm1_percentile(rho: float, share: float) -> float:
    """Return the time that `share` of the calls of M/M/1 (FIFO) do not exceed: they are exponential."""
    return -math.log(1 - share) / (1 - rho)


def mm1k_loss(rho: float, room: int) -> float:
    """Return the share of calls that M/M/1 refuses when `room` are inside, the one in service included; any rho."""
    if rho == 1:
        return 1 / (room + 1)
    return (1 - rho) * rho**room / (1 - rho ** (room + 1))


def mg1_fifo_mean(rho: float, cv2: float) -> float:
    """Return the mean time in M/G/1 served in order, by Pollaczek and Khinchine.

    Args:
        rho: load.
        cv2: variance of the service time, divided by its mean's square.
    """
    return 1 + rho * (1 + cv2) / (2 * (1 - rho))


def mg1_ps_mean(rho: float) -> float:
    """Return the mean time in M/G/1 with shared service, the same for every law of service (Kleinrock, 1967)."""
    return 1 / (1 - rho)


def gm1_mean(transform: Callable[[float], float]) -> float:
    """Return the mean time in GI/M/1: 1 / (1 - s), s the root below 1 of s = A(1 - s).

    Args:
        transform: the Laplace transform A of the gaps between arrivals.
    """
    low, high = 0.0, 1 - 1e-12
    while high - low > 1e-13:
        middle = (low + high) / 2
        if transform(1 - middle) > middle:
            low = middle
        else:
            high = middle
    return 1 / (1 - low)


def dm1_mean(rho: float) -> float:
    """Return the mean time in D/M/1: round robin over many backends, each of which hears a clock tick."""
    return gm1_mean(lambda s: math.exp(-s / rho))


def em1_mean(stages: int, rho: float) -> float:
    """Return the mean time in E_k/M/1: one Poisson stream dealt out in turn to `stages` backends of one slot."""
    return gm1_mean(lambda s: (stages * rho / (stages * rho + s)) ** stages)


def supermarket(rho: float, d: int = 2) -> float:
    """Return the mean time where each call joins the shortest of `d` of many queues (Mitzenmacher; Vvedenskaya, 1996).

    With d = 1 it is M/M/1's; from 2 on the tail of the queues falls doubly exponentially.
    """
    if d == 1:
        return mm1_mean(rho)
    total, power = 0.0, 1.0
    while True:
        term = rho ** ((d**power - d) / (d - 1))
        if term < 1e-15:
            return total
        total += term
        power += 1


def noise_band(picks: float, backends: int) -> float:
    """Return up to what ratio of the largest share to the mean is noise, when calls are dealt at random.

    Args:
        picks: on average for each backend.
        backends: how many.
    """
    return 1 + math.sqrt(2 * math.log(backends) / picks) if picks and backends > 1 else 1.0


# --- faults --------------------------------------------------------------------------------------


def crash_loss(rate: float, time: float, wire: float) -> float:
    """Return how many calls a crash with resets costs, without retries: those in the backend and on the wire.

    Args:
        rate: calls per second that come to the backend.
        time: mean time in the backend, in seconds.
        wire: one way, in seconds.
    """
    return rate * (time + 2 * wire)


def drain_loss(rate: float, service: float, wire: float, drain: float) -> float:
    """Return how many calls a stop costs that says NOT_SERVING `drain` seconds before (exponential service, no queue).

    Args:
        rate: calls per second that come to the backend.
        service: mean time of service, in seconds.
        wire: one way, in seconds: the news and the calls sent before it arrives are two of them late.
        drain: seconds from the news to the stop.
    """
    late = max(0.0, 2 * wire - drain)
    left = max(0.0, drain - 2 * wire)
    return rate * (late + service * math.exp(-left / service))


def blackhole_timeouts(rate: float, backends: int, length: float, deadline: float) -> float:
    """Return how many calls of round robin end by their deadline within `length` seconds of a backend's silence."""
    return rate / backends * max(0.0, length - deadline)


def surviving_load(zones: int, lost: int = 1) -> float:
    """Return up to what load a fleet stands the loss of `lost` of its zones."""
    return (zones - lost) / zones


def reported_share(duty: float, period: float, wire: float) -> float:
    """Return which share of the time a backend is READY that is so for `duty` of each period, news arriving in order.

    Reports of both kinds are late by the same `wire`, but a call sent by then arrives as late again; 2 `wire` of each
    period are lost to calls that arrive in time.
    """
    return max(0.0, duty - 2 * wire / period)


def ejection_share(backends: int, interval: float, longest: float) -> float:
    """Return the most of all calls that go to one bad backend in the long run: one look in each ejection.

    Args:
        backends: how many.
        interval: seconds from one look to the next (gRFC A50).
        longest: seconds of the longest ejection.
    """
    return interval / (interval + longest) / backends


def blind_spot(factor: float) -> float:
    """Return from what share of equally bad hosts on success-rate ejection (gRFC A50) sees none of them.

    k of N bad ones lie sqrt((N - k) / k) standard deviations (of the population) below the mean, whatever their rate.

    Args:
        factor: standard deviations below the mean, 1.9 by default: 21.7 %.
    """
    return 1 / (1 + factor * factor)


def is_seen_by_success_rate(bad: int, hosts: int, factor: float) -> bool:
    """Return whether `bad` equally bad of `hosts` hosts are ejected by their success rate (gRFC A50)."""
    return 0 < bad < hosts and math.sqrt((hosts - bad) / bad) > factor


def most_ejected(hosts: int, percent: float) -> int:
    """Return the most that gRFC A50 ejects at once: the share is looked at before each, and one always may be."""
    return min(hosts, math.floor(hosts * percent / 100) + 1)


# --- retries -------------------------------------------------------------------------------------


def is_metastable(rho: float, retries: int) -> bool:
    """Return whether an overload feeds itself for ever: rho (1 + retries) > 1, when every call times out.

    Holds for a FIFO without a bound whose work goes on after its caller has given up.
    """
    return rho * (1 + retries) > 1


def recovery_time(rho: float, retries: int, trigger: float, capacity: float, timeout: float) -> float:
    """Return the seconds from the end of a dip to the first call in time again; infinite where it is metastable.

    Args:
        rho: load at full capacity.
        retries: of each call.
        trigger: length of the dip, in seconds.
        capacity: that is left in it, as a share.
        timeout: of each attempt, in seconds: a line that is shorter hurts nobody.

    It counts retries from the beginning of the dip on; `sooner_by` says what it is sooner since they come later.
    """
    offered = rho * (1 + retries)
    if offered >= 1:
        return math.inf
    return max(0.0, trigger * (offered - capacity) - timeout) / (1 - offered)


def sooner_by(rho: float, retries: int, timeout: float) -> float:
    """Return the seconds by which recovery is sooner than `recovery_time`: the k-th retry comes k timeouts late."""
    return rho * timeout * retries * (retries + 1) / 2 / (1 - rho * (1 + retries))


def most_retries(max_tokens: float, ratio: float, successes: float) -> float:
    """Return the most retries that gRFC A6's throttle allows: half of the tokens, and what was earned since."""
    return max_tokens / 2 + ratio * successes


def throttle_drains(failing: float, ratio: float) -> bool:
    """Return whether gRFC A6's tokens run out when this share of the attempts fails: f > r / (1 + r)."""
    return failing > ratio / (1 + ratio)


def hedged_tail(tail: Callable[[float], float], delay: float, time: float) -> float:
    """Return the share of calls that take longer than `time` when they are hedged (Dean and Barroso, 2013).

    Args:
        tail: the share of attempts that take longer than its argument; attempts are independent.
        delay: until the second attempt.
        time: asked for.
    """
    return tail(time) * (tail(time - delay) if time > delay else 1.0)


def hedged_mean(mean: float, delay: float) -> float:
    """Return the mean time of a call of exponential service with one hedge after `delay`, where nobody waits."""
    return mean * (1 - math.exp(-delay / mean)) + math.exp(-delay / mean) * mean / 2


def hedged_quantile(mean: float, delay: float, share: float) -> float:
    """Return a quantile of the same, beyond the delay: P(T > t) = exp(-t / mean) exp(-(t - delay) / mean)."""
    alone = -mean * math.log(1 - share)
    return alone if alone <= delay else (alone + delay) / 2


def both_late(late: Sequence[float]) -> float:
    """Return the share of calls whose two attempts, on different backends drawn at random, are both late.

    Args:
        late: the share of late attempts, of each backend; at least two.
    """
    whole, squares = math.fsum(late), math.fsum(one * one for one in late)
    return (whole * whole - squares) / (len(late) * (len(late) - 1))


# --- flap damping (RFC 2439) -----------------------------------------------------------------------


def damping_peak(penalty: float, period: float, half_life: float) -> float:
    """Return what a steady flap's figure of merit rises to: P / (1 - 2 ** (-T / H))."""
    return penalty / (1 - 2 ** (-period / half_life))


def damping_suppresses(penalty: float, period: float, half_life: float, suppress: float) -> bool:
    """Return whether a steady flap is suppressed in the end: T < -H log2(1 - P / S)."""
    if penalty >= suppress:
        return True
    return period < -half_life * math.log2(1 - penalty / suppress)


def damping_release(peak: float, reuse: float, half_life: float) -> float:
    """Return the seconds from the last flap to the release: H log2(peak / reuse)."""
    return max(0.0, half_life * math.log2(peak / reuse))


# --- fleets --------------------------------------------------------------------------------------


def round_robin_capacity(rates: list[float]) -> float:
    """Return up to what rate of arrivals round robin is stable over backends of these rates: N times the slowest."""
    return len(rates) * min(rates)


def two_choices_capacity(slow: int, backends: int, slow_rate: float) -> float:
    """Return up to what rate two random choices are stable: calls that draw two of the slow ones must fit on these.

    Args:
        slow: how many are slow; at least 2.
        backends: how many there are.
        slow_rate: of one slow backend, in calls per second.
    """
    return slow * slow_rate * backends * (backends - 1) / (slow * (slow - 1))


def subset_max_to_mean(clients: int, backends: int, size: int) -> float:
    """Return the expected largest number of clients on a backend, divided by the mean, for random subsets (gRFC A68).

    Each backend's number is Binomial(clients, size / backends); they are taken as independent.
    """
    share = size / backends
    below, largest, term = 0.0, 0.0, (1 - share) ** clients
    for count in range(clients + 1):
        below += term
        largest += 1 - min(1.0, below) ** backends
        term *= (clients - count) / (count + 1) * share / (1 - share) if share < 1 else 0.0
    return largest / (clients * share) if share < 1 else 1.0
