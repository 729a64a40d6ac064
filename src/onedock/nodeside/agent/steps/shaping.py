"""Changes to the limits of a NIC."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """Let no more than that pass a link, instead of whatever limited it before."""

    name: str
    inside: bool
    """A NIC in the VM's namespace; else a host side."""
    rate: int
    """Bytes per second."""
    burst: int
    """Bytes that may pass at once, or at the peak rate."""
    peak: int
    """Bytes per second; 0: none."""
    peak_burst: int
    """Bytes."""
    queue: int
    """Bytes that may wait."""


@dataclass(frozen=True, slots=True)
class Unshape:
    """Let everything pass a link."""

    name: str
    inside: bool


ShapingStep = Shape | Unshape
