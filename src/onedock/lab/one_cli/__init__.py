"""The lab's own ``onedatastore``, ``oneimage``, ``onevnet``, ``onesecgroup``, ``onehost`` and ``onevm``.

Just the subcommands of the walkthrough and of daily use, over the same XML-RPC calls as OpenNebula's own commands.
"""

import sys
from pathlib import Path

COMMANDS = ("onedatastore", "oneimage", "onevnet", "onesecgroup", "onehost", "onevm")


def link_commands(bin_dir: Path) -> None:
    """Writes one small executable per command into ``bin_dir``, run by this Python interpreter."""
    bin_dir.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        path = bin_dir / name
        text = (
            f"import sys\nfrom onedock.lab.one_cli.__main__ import main\n\nsys.exit(main(['{name}', *sys.argv[1:]]))\n"
        )
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
