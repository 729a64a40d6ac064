"""Whether the controller serves, and can write down what it accepts."""

from collections.abc import Iterator

from onedock import __version__
from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error, warning

UNDELIVERED = 100


def check(facts: Facts) -> Iterator[Finding]:
    """Reach, version, journal, answers that pile up."""
    health = facts.health
    if health is None:
        yield error(
            facts.api_error, "systemctl start onedock-controller; journalctl -u onedock-controller tells why not"
        )
        return
    if health["version"] != __version__:
        yield warning(
            f"the controller is of release {health['version']}, this command of {__version__}",
            "systemctl restart onedock-controller",
        )
    if health["journal_error"]:
        yield error(health["journal_error"], f"df {facts.settings.controller.state_dir}")
    if health["undelivered"] > UNDELIVERED:
        yield warning(f"{health['undelivered']} answers wait to be delivered to oned", "onedock intents --pending")
