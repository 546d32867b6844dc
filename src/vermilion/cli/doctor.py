"""`vermilion doctor`: is everything here that is needed, and what to do if not."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.markup import escape

import vermilion as vm
from vermilion.cli.show import AsJson, Quiet, out, print_json

_MARKS = {"good": "[green]✓[/]", "missing": "[yellow]○[/]", "bad": "[red]✗[/]"}


def doctor(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Look at the machine, the packages, the models and the library."""
    findings = list(vm.checkup())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            if quiet and finding.state == "good":
                continue
            line = f"{_MARKS[finding.state]} {finding.what:<10} {escape(finding.found)}"
            remedy = f"  → {escape(finding.remedy)}" if finding.remedy else ""
            out.print(line + remedy, soft_wrap=True)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
