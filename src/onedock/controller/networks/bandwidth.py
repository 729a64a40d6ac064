"""INBOUND_ and OUTBOUND_ limits of a NIC."""

from onedock.controller.networks.values import Source
from onedock.reconcilers.nic_parts import Bandwidth

KILOBYTE = 1024
_KILOBYTES = range(2**40)


def bandwidth(nic: Source, direction: str) -> Bandwidth | None:
    """The limit of one direction, ``INBOUND`` or ``OUTBOUND``; None without one, or with an average of 0.

    Raises:
        TerminalError: not numbers, a peak without an average (libvirt refuses that too), or one that is below it.
    """

    def bytes_of(name: str) -> int:
        attribute = f"{direction}_{name}"
        return (nic.number(attribute, nic.text(attribute), _KILOBYTES) or 0) * KILOBYTE

    average, peak, burst = bytes_of("AVG_BW"), bytes_of("PEAK_BW"), bytes_of("PEAK_KB")
    if not average and (peak or burst) and not nic.text(f"{direction}_AVG_BW"):
        raise nic.refusal(f"{direction}_PEAK_… without {direction}_AVG_BW; set the average (KB/s)")
    if not average:
        return None
    if peak and peak < average:
        raise nic.refusal(f"{direction}_PEAK_BW is below {direction}_AVG_BW; raise the peak or leave it out")
    return Bandwidth(average, peak, burst)
