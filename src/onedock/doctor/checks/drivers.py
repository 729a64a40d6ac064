"""Whether oned has started our drivers: that is how its registration of them shows from here."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error


def check(facts: Facts) -> Iterator[Finding]:
    """Both must be connected to the controller."""
    for kind, stanza in (("vmm", "VM_MAD in oned.conf"), ("im", "IM_MAD in monitord.conf")):
        if facts.health is not None and not facts.health["drivers"][kind]:
            yield error(
                f"the driver onedock-{kind} is not connected: oned has not started it, or it cannot reach "
                f"{facts.settings.controller.driver_socket} ({stanza})",
                "onedock install frontend; systemctl restart opennebula",
            )
