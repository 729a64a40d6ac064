"""``python scripts/check_docs.py`` checks what README.md and docs/ say of files, commands, settings and messages.

Every relative link and anchor leads somewhere, every page can be reached, and what is named exists: ``onedock``'s
commands with their options, settings, their environment variables, and messages (first column of tables that are
headed "message"; ``…`` stands for a value, and what stands in parentheses behind one says that it is another's).
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

import typer.main
from pydantic import BaseModel

from onedock.cli.main import app
from onedock.config.settings import NodeSettings, Settings

ROOT = Path(__file__).resolve().parents[1]
STARTS = ("README.md", "docs/index.md")

_FENCE = re.compile(r"^(`{3,})[^\n]*\n(.*?)^\1`*\s*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_COMMAND = re.compile(r"(?:^|[;&|(]|\$|sudo)[ \t]*onedock[ \t]+([a-z].*)", re.MULTILINE)
_SETTING = re.compile(r"([a-z]+)\.([a-z_]+|<[a-z]+>)(?:\.([a-z_]+))?(?:\s*=.*)?", re.DOTALL)
_VARIABLE = re.compile(r"ONEDOCK_([A-Z]+)__([A-Z_]+)")
_MESSAGE_TABLE = re.compile(r"^\| *message *\|.*\n\|[-| :]+\n((?:\|.*(?:\n|\Z))+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """One file, read."""

    path: Path
    text: str

    @property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _FENCE.sub("", self.text)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of code."""
        return tuple(match[2] for match in _FENCE.finditer(self.text))

    @property
    def spans(self) -> tuple[str, ...]:
        """What stands between backticks, with line ends as blanks."""
        return tuple(" ".join(match[2].split()) for match in _SPAN.finditer(self.prose))

    @property
    def links(self) -> tuple[str, ...]:
        """Targets that lie in this repository."""
        targets = _LINK.findall(_SPAN.sub("", self.prose))
        return tuple(target for target in targets if not _ELSEWHERE.match(target))

    @property
    def anchors(self) -> frozenset[str]:
        """Fragments of the headings, as GitHub makes them."""
        found: list[str] = []
        for heading in _HEADING.findall(self.prose):
            slug = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-")
            repeated = sum(1 for other in found if other == slug)
            found += [slug] if not repeated else [slug, f"{slug}-{repeated}"]
        return frozenset(found)


def check(root: Path) -> list[str]:
    """Everything that is wrong below ``root``, one line each."""
    paths = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    pages = {path: Page(path, path.read_text(encoding="utf-8")) for path in paths}
    problems = [f"{path.relative_to(root)}: no link leads here" for path in _unreachable(root, pages)]
    for path, page in pages.items():
        found = [*_bad_links(page, pages), *_bad_commands(page), *_bad_settings(page), *_bad_messages(page)]
        problems += [f"{path.relative_to(root)}: {problem}" for problem in found]
    return problems


def _target(page: Page, link: str) -> tuple[Path, str]:
    """The file that a link names, and its fragment."""
    name, _, fragment = unquote(link).partition("#")
    return (page.path.parent / name).resolve() if name else page.path, fragment


def _unreachable(root: Path, pages: dict[Path, Page]) -> list[Path]:
    waiting, seen = [root / name for name in STARTS], set[Path]()
    while waiting:
        path = waiting.pop()
        if path in pages and path not in seen:
            seen.add(path)
            waiting += [_target(pages[path], link)[0] for link in pages[path].links]
    return [path for path in pages if path not in seen]


def _bad_links(page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    for link in page.links:
        path, fragment = _target(page, link)
        if not path.exists():
            yield f"{link}: there is no such file"
        elif fragment and path in pages and fragment not in pages[path].anchors:
            yield f"{link}: there is no such heading"


def _bad_commands(page: Page) -> Iterator[str]:
    for text in (*page.spans, *page.blocks):
        for line in _COMMAND.findall(text):
            words = re.split(r"[;&|#()`]", line)[0].replace(",", " ").split()
            if problem := _wrong_words(words):
                yield f"onedock {' '.join(words)}: {problem}"


def _wrong_words(words: list[str]) -> str:
    """Why ``onedock <words>`` could not be called; empty when it could."""
    command = typer.main.get_command(app)
    for number, word in enumerate(takewhile(lambda word: not word.startswith("-"), words)):
        subcommands = getattr(command, "commands", None)
        if subcommands is None or (number and not word.isalpha()):
            break
        if word not in subcommands:
            return f"there is no command {word}"
        command = subcommands[word]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in {*options, "--help"}]
    return f"there is no option {unknown[0]}" if unknown else ""


def _bad_settings(page: Page) -> Iterator[str]:
    for span in page.spans:
        match = _SETTING.fullmatch(span)
        if match and match[1] in Settings.model_fields and not _is_setting(match[1], match[2], match[3]):
            yield f"{span}: there is no such setting"
    for section, name in _VARIABLE.findall(page.text):
        if not _is_setting(section.lower(), name.lower(), None):
            yield f"ONEDOCK_{section}__{name}: there is no such setting"


def _is_setting(section: str, name: str, rest: str | None) -> bool:
    """``rest`` is there in ``nodes.<name>.engine`` only."""
    if section == "nodes":
        return rest is None or rest in NodeSettings.model_fields
    model = Settings.model_fields[section].annotation if section in Settings.model_fields else None
    return isinstance(model, type) and issubclass(model, BaseModel) and name in model.model_fields and rest is None


def _bad_messages(page: Page) -> Iterator[str]:
    for table in _MESSAGE_TABLE.findall(page.text):
        for row in table.splitlines():
            cell = row.strip("|").split(" | ")[0].strip()
            if cell.endswith(")"):
                continue  # another program's words
            for _, message in _SPAN.findall(cell):
                for part in filter(None, (part.strip(" :'") for part in message.split("…"))):
                    if part not in _literals():
                        yield f"message {message!r}: nothing in src/ says {part!r}"


@cache
def _literals() -> str:
    """Every text in the source, f-strings with ``…`` for what they put in, one per line."""
    texts: list[str] = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def main() -> int:
    """Print what is wrong; status 1 then."""
    problems = check(ROOT)
    print("\n".join(problems) or "README.md and docs/: links, commands, settings and messages are right")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
