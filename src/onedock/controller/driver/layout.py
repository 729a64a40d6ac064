"""Where oned looks for the scripts of transfer manager and datastore: names in its REMOTES directory."""

import os
import shutil
from pathlib import Path

from onedock.controller.driver import action

TM_ACTIONS = (
    "clone", "context", "cpds", "delete", "failmigrate", "ln", "mkimage", "mkswap", "monitor", "mv", "mvds",
    "postbackup", "postbackup_live", "postmigrate", "prebackup", "prebackup_live", "premigrate", "resize",
    "restore", "snap_create", "snap_create_live", "snap_delete", "snap_revert",
)  # fmt: skip
"""Protocol reference 3.3, without ``monitor_ds``: it runs on nodes, for datastores that are local to one.

A line such as ``CLONE.ssh`` needs no name of its own: oned's runner falls back to ``clone``.
"""
DATASTORE_ACTIONS = (
    "clone", "cp", "export", "mkfs", "monitor", "rm", "snap_delete", "snap_flatten", "snap_revert", "stat",
)  # fmt: skip
"""Protocol reference 4.2: those of an image datastore."""


def lay_out(remotes: Path) -> None:
    """Create or renew ``tm/onedock`` and ``datastore/onedock`` below oned's REMOTES directory.

    Each holds one copy of ``action.py`` and a relative link to it per action, so that the directory can be
    copied as a whole. All is replaced by renaming: oned may run a script at any moment. Raises OSError.
    """
    for kind, actions in (("tm", TM_ACTIONS), ("datastore", DATASTORE_ACTIONS)):
        directory = remotes / kind / "onedock"
        directory.mkdir(parents=True, exist_ok=True)
        new = directory / f".new-{os.getpid()}"
        shutil.copyfile(action.__file__, new)
        new.chmod(0o755)
        new.replace(directory / "action.py")
        for name in actions:
            new.symlink_to("action.py")
            new.replace(directory / name)
