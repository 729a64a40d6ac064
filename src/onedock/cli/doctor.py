"""``onedock doctor``."""

import asyncio
import json
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from onedock.cli.client import ApiError, get_json
from onedock.cli.common import console
from onedock.config.settings import Settings, SettingsError, load_settings
from onedock.doctor.checks import ALL
from onedock.doctor.finding import Finding, Severity, error
from onedock.doctor.gather import gather
from onedock.doctor.mend import mend
from onedock.reconcilers.errors import TransientError

Results = dict[str, list[Finding]]
_STYLES = {Severity.WARNING: "yellow", Severity.ERROR: "red"}


def examine(*, fix: bool, as_json: bool) -> None:
    """Run all checks, and print what they found for people or as JSON. Raises typer.Exit with the worst severity."""
    try:
        settings = load_settings()
    except SettingsError as problem:
        results: Results = {"settings": [error(str(problem), "onedock config check")]}
        mended: list[str] = []
    else:
        results, mended = asyncio.run(_examine(settings, fix=fix))
    print(json.dumps(as_data(results, mended))) if as_json else console.print(report(results, mended))
    worst = max((finding.severity for findings in results.values() for finding in findings), default=Severity.OK)
    raise typer.Exit(int(worst))


async def _examine(settings: Settings, *, fix: bool) -> tuple[Results, list[str]]:
    def ask_controller(target: str) -> Any:
        try:
            return get_json(settings.controller.api_socket, target)
        except ApiError as problem:
            raise TransientError(str(problem)) from None

    facts = await gather(settings, ask_controller)
    results = {name: list(check(facts)) for name, check in ALL.items()}
    if not fix:
        return results, []
    safe = [finding for findings in results.values() for finding in findings if finding.fix is not None]
    return results, [await mend(settings, finding) for finding in safe]


def as_data(results: Results, mended: list[str]) -> dict[str, Any]:
    """For programs."""
    findings = [
        {
            "check": name,
            "severity": finding.severity.name.lower(),
            "cause": finding.cause,
            "remedy": finding.remedy,
            "fixable": finding.fix is not None,
        }
        for name, found in results.items()
        for finding in found
    ]
    return {"checks": list(results), "findings": findings, "mended": mended}


def report(results: Results, mended: list[str]) -> RenderableType:
    """For people: what is wrong with its remedy, then what is fine."""
    lines: list[Text] = []
    for name, findings in results.items():
        for finding in findings:
            word = finding.severity.name.lower()
            lines.append(Text.assemble((f"✘ {name}: {word}: ", _STYLES[finding.severity]), finding.cause))
            lines.append(Text.assemble("    mend: ", (finding.remedy, "bold")))
    fine = [name for name, findings in results.items() if not findings]
    if fine:
        lines.append(Text.assemble(("✔ fine: ", "green"), ", ".join(fine)))
    return Group(*lines, *(Text(text) for text in mended))
