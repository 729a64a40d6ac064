"""``python -m onedock.config.reference [FILE]`` writes docs/configuration.md: every setting, from the model itself."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from onedock.config.settings import DEFAULT_FILE, NodeSettings, Settings

_HEAD = f"""# Settings

Generated from `onedock.config.settings` by `make docs`; a test fails when it is out of date.

One file, `{DEFAULT_FILE}` (`ONEDOCK_CONFIG` names another), for front-end and nodes alike; each program reads
the sections that are its own. Nothing needs to be set on a front-end that is its own only node. A name that is not
below is an error. `ONEDOCK_<SECTION>__<NAME>` in the environment overrides one value:
`ONEDOCK_LOG__LEVEL=debug`.

```toml
[registry]
address = "registry.example.org:5000"
auth_file = "/etc/onedock/registry.json"

[nodes.node1]                       # the name of the host in OpenNebula
engine = "unix:///var/run/docker.sock"
```

Two OpenNebulas that share a registry need a `registry.repository` each: images are stored as
`<repository>/image-<id of the image>`, so the first deletion in one would take the other's image with it.
"""


def document() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            parts.append(_section(name, model))
    parts.append(_section("nodes.<name>", NodeSettings, (Settings.model_fields["nodes"].description or "") + "\n"))
    return "\n".join(parts)


def _section(name: str, model: type[BaseModel], more: str = "") -> str:
    doc = (model.__doc__ or "").strip().splitlines()[0]
    rows = "\n".join(_rows(model))
    return f"## `[{name}]`\n\n{doc} {more}".rstrip() + f"\n\n| name | default | what it is |\n|---|---|---|\n{rows}\n"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"| `{name}` | {_default(field)} | {text}{_limits(field)} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "unset"
    return f"`{json.dumps(value, default=str)}`"


def _limits(field: FieldInfo) -> str:
    """The constraints, in words, such as ``At least 1.``."""
    words = {"ge": "At least", "le": "At most", "gt": "More than", "lt": "Less than", "pattern": "Matches"}
    found = [
        f"{words[name]} {f'`{value}`' if name == 'pattern' else value}."
        for item in field.metadata
        for name in words
        if (value := getattr(item, name, None)) is not None
    ]
    return "".join(f" {text}" for text in found)


def main() -> None:
    """Write the page into the file that is named, or to standard output."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(document())
    else:
        sys.stdout.write(document())


if __name__ == "__main__":
    main()
