"""Traffic recorded from a real oned and monitord, and its encoding on the wire."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent.parent / "fixtures"


def records(name: str) -> list[dict[str, Any]]:
    """All records of ``<name>.jsonl`` without the names of the steps."""
    lines = (FIXTURES / f"{name}.jsonl").read_text().splitlines()
    return [record for line in lines if "step" not in (record := json.loads(line))]


def to_vmm(record: dict[str, Any]) -> str:
    """The line of oned that a record of ``vmm.jsonl`` stands for."""
    if record["head"] == "INIT":
        return "INIT"
    return f"{record['head']} {base64.b64encode(record.get('xml', '').encode()).decode()}"


def to_im(record: dict[str, Any]) -> str:
    """The line, of either side, that a record of ``im.jsonl`` stands for."""
    if "payload" not in record:
        return str(record["head"])
    return f"{record['head']} {base64.b64encode(zlib.compress(record['payload'].encode())).decode()}"
