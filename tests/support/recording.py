"""The recorded traffic of a real OpenNebula 7.4, cut into its steps."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[1] / "fixtures"
_FILES = ("xmlrpc", "vmm", "im", "scripts")


@dataclass(slots=True)
class Step:
    """One recorded operation: records of each file in their order."""

    number: int
    name: str
    xmlrpc: list[dict[str, Any]] = field(default_factory=list)
    vmm: list[dict[str, Any]] = field(default_factory=list)
    im: list[dict[str, Any]] = field(default_factory=list)
    scripts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Name with number: names are not unique."""
        return f"{self.number:02} {self.name}"


def load() -> list[Step]:
    """All steps; step 0 is what happened before the first one."""
    steps = [Step(0, "start")]
    for file in _FILES:
        number = 0
        for line in (FIXTURES / f"{file}.jsonl").read_text().splitlines():
            record = json.loads(line)
            if set(record) == {"step"}:
                number += 1
                if number == len(steps):
                    steps.append(Step(number, record["step"]))
                assert steps[number].name == record["step"]
            else:
                getattr(steps[number], file).append(record)
    return steps


_VOLATILE = (
    (re.compile(r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"), "DATE"),
    (re.compile(r"\b1[78]\d{8}\b"), "TIME"),
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"<REQUEST_ID>\d+</REQUEST_ID>"), "<REQUEST_ID>N</REQUEST_ID>"),
)


def normalised(text: str, directory: str = "/var/lib/one") -> str:
    """The text without what differs between two runs: times, UUIDs, request numbers and the place of VAR."""
    text = text.replace(directory, "/var/lib/one")
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    return text
