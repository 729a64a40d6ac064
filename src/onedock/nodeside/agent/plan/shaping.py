"""Limits of a NIC as token buckets: to the VM at the host side, from the VM at its own side."""

from collections.abc import Iterator

from onedock.nodeside.agent.seen import HostLink, InnerLink, TokenBucket
from onedock.nodeside.agent.steps import Shape, Step, Unshape
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Bandwidth

_BURST_S = 0.01
"""So long a timer of the kernel may be late without anything being lost of the rate."""
_QUEUE_S = 0.1
"""So long a packet may wait at the average rate; a sender that finds less room does not reach the rate."""
_PEAK_QUEUE_S = 0.03
"""At the peak rate: less, because the queue is still there when the peak is over."""
_TICK_S = 64e-9
_LONGEST_S = 200
"""The kernel shows a burst as the time that it takes, with 32 bits for 64 ns."""
_MOST = 2**32 - 1
"""Bytes of a burst that the kernel can be told of."""
_FRAMES = 2
_HEADERS = 18
"""Ethernet with a VLAN tag."""


def token_bucket(limit: Bandwidth, mtu: int) -> TokenBucket:
    """How the kernel keeps to a limit, for packets of up to ``mtu`` bytes."""
    least = _FRAMES * (mtu + _HEADERS)
    longest = max(limit.average * _LONGEST_S, least)
    burst = min(max(limit.burst or int(limit.average * _BURST_S), least), longest, _MOST)
    queue = max(int(limit.average * _QUEUE_S), int(limit.peak * _PEAK_QUEUE_S), 8 * least)
    if limit.peak <= limit.average:
        return TokenBucket(limit.average, burst, queue)
    return TokenBucket(limit.average, burst, queue, limit.peak, max(int(limit.peak * _BURST_S), least))


def plan_limits(nic: Nic, host: HostLink | None, inner: InnerLink) -> Iterator[Step]:
    """Both directions of a NIC are limited as wanted, and not otherwise."""
    mtu = nic.mtu or inner.mtu
    sides = ((host, nic.host_name, False, nic.inbound), (inner, nic.name, True, nic.outbound))
    for link, name, inside, limit in sides:
        if limit is not None:
            bucket = token_bucket(limit, mtu)
            if link is None or link.bucket is None or not _same(bucket, link.bucket):
                yield Shape(name, inside, bucket.rate, bucket.burst, bucket.peak, bucket.peak_burst, bucket.queue)
        elif link is not None and link.limited:
            yield Unshape(name, inside)


def _same(want: TokenBucket, have: TokenBucket) -> bool:
    """The kernel keeps bursts as times, and rounds them."""
    exact = (want.rate, want.peak, want.queue) == (have.rate, have.peak, have.queue)
    return exact and _close(want.burst, have.burst, want.rate) and _close(want.peak_burst, have.peak_burst, want.peak)


def _close(one: int, other: int, rate: int) -> bool:
    return abs(one - other) <= 64 + rate * _TICK_S + max(one, other) // 100
