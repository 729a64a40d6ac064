"""What both roles have on the system itself: group, directories, units, rotation of logs."""

import json
import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from onedock.config.settings import settings_file
from onedock.install.steps import InstallError, Steps, run

_BOOTED_WITH_SYSTEMD = Path("/run/systemd/system")


@dataclass(frozen=True, slots=True)
class System:
    """Where things go; the defaults are those of a Linux distribution with systemd."""

    group: str = "onedock"
    """May use the agent's socket, and put sockets into ``run``."""
    units: Path = Path("/etc/systemd/system")
    tmpfiles: Path = Path("/etc/tmpfiles.d")
    logrotate: Path = Path("/etc/logrotate.d")
    run: Path = Path("/run/onedock")
    settings: Path = field(default_factory=settings_file)
    programs: Path = field(default_factory=lambda: Path(sys.executable).parent)
    """Directory of ``onedock-controller`` and ``onedock-agent``: that of this Python."""

    def unit(self, role: str) -> Path:
        """The unit of ``controller`` or ``agent``."""
        return self.units / f"onedock-{role}.service"

    def install(self, steps: Steps, role: str, *, user: str = "", others: dict[str, str] | None = None) -> None:
        """Group, the directory of sockets, and the unit of a role, not started. Raises InstallError, OSError.

        Args:
            steps: take what is done.
            role: ``controller`` or ``agent``.
            user: who is to be in the group: oned's user, who brings sockets here and, over SSH, uses the agent's.
            others: what else the unit has between two @.
        """
        program = self.programs / f"onedock-{role}"
        if not program.is_file():
            raise InstallError(f"{program} does not exist; run the `onedock` that is installed together with it")
        gid = steps.group(self.group)
        if user:
            steps.member(user, self.group)
        # Controller and agent may be on one machine under two users: neither may remove what the other has there.
        content = f"# ONEDock: the sockets of controller and agent\nd {self.run} 1775 root {self.group} -\n"
        steps.file(self.tmpfiles / "onedock.conf", content.encode())
        if gid is not None:
            steps.directory(self.run, mode=0o1775, owner=(0, gid))
        text = resources.files("onedock.install").joinpath(f"systemd/onedock-{role}.service").read_text()
        for name, value in {"bin": str(self.programs), **(others or {})}.items():
            text = text.replace(f"@{name}@", value)
        if steps.file(self.unit(role), text.encode()):
            self._reload(steps)

    def uninstall(self, steps: Steps, role: str) -> None:
        """The unit, stopped; and what the other role does not need either."""
        unit = self.unit(role)
        if unit.exists():
            if _BOOTED_WITH_SYSTEMD.is_dir() and not steps.dry_run:
                run(["systemctl", "disable", "--now", unit.name])
            steps.absent(unit)
            self._reload(steps)
        if not any(self.unit(other).exists() for other in ("controller", "agent") if other != role):
            steps.absent(self.tmpfiles / "onedock.conf")
            if self.run.is_dir() and not any(self.run.iterdir()):  # else somebody serves there, by hand
                steps.absent(self.run)

    def settle(self, steps: Steps, section: str, values: dict[str, str], *, write: bool = True) -> None:
        """Settings that must differ from what they are: a new file has them, for an existing one they are told."""
        if not values:
            return
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        if self.settings.exists() or not write:
            for line in lines.splitlines():
                steps.note("settings", f"in {self.settings}, section [{section}], set  {line}")
        else:
            head = "# ONEDock's settings; `onedock config reference` explains all of them.\n"
            steps.file(self.settings, f"{head}\n[{section}]\n{lines}".encode())

    def rotate(self, steps: Steps, logs: Path, owner: tuple[str, str]) -> None:
        """Rotation of the drivers' logs, in OpenNebula's own way."""
        content = (
            f"{logs}/onedock-*.log {{\n    su {owner[0]} {owner[1]}\n    weekly\n    rotate 4\n    missingok\n"
            "    notifempty\n    compress\n    copytruncate\n}\n"
        )
        steps.file(self.logrotate / "onedock", content.encode())

    def _reload(self, steps: Steps) -> None:
        if _BOOTED_WITH_SYSTEMD.is_dir() and self.units == Path("/etc/systemd/system") and not steps.dry_run:
            run(["systemctl", "daemon-reload"])
            steps.done("systemd has read the units", changed=True)
