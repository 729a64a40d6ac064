"""INBOUND_ and OUTBOUND_ limits of a NIC."""

from onedock.controller.networks.values import Source
from onedock.reconcilers.nic_parts import Bandwidth

KILOBYTE = 1024
_RATES, _BURSTS = range(2**22), range(2**30)
"""KB/s and KB: the kernel's token buckets count bytes per second with 32 bits."""


def bandwidth(nic: Source, direction: str) -> Bandwidth | None:
    """The limit of one direction, ``INBOUND`` or ``OUTBOUND``; None without one, or with an average of 0.

    Raises:
        TerminalError: not numbers, a peak without an average (libvirt refuses that too), or one that is below it.
    """

    def bytes_of(name: str, allowed: range) -> int:
        attribute = f"{direction}_{name}"
        return (nic.number(attribute, nic.text(attribute), allowed) or 0) * KILOBYTE

    average, peak, burst = bytes_of("AVG_BW", _RATES), bytes_of("PEAK_BW", _RATES), bytes_of("PEAK_KB", _BURSTS)
    if not average and (peak or burst) and not nic.text(f"{direction}_AVG_BW"):
        raise nic.refusal(f"{direction}_PEAK_… without {direction}_AVG_BW; set the average (KB/s)")
    if not average:
        return None
    if peak and peak < average:
        raise nic.refusal(f"{direction}_PEAK_BW is below {direction}_AVG_BW; raise the peak or leave it out")
    return Bandwidth(average, peak, burst)
