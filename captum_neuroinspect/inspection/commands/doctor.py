"""``neuroinspect doctor``: what is usable here, and how to get what is not."""

from __future__ import annotations

from dataclasses import asdict

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import finish, safely


def doctor(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Say which weights, devices and encoders are usable here, and how to get the others.

    Exit code 1 when something that the package needs is missing.
    """
    with safely(debug):
        from captum_neuroinspect.inspection.doctor import Finding, examine, is_healthy

        findings = examine()

        def line(finding: Finding) -> str:
            mark = "ok " if finding.ok else "-- "
            advice = f"\n{'':35}{finding.advice}" if finding.advice else ""
            return f"{mark} {finding.name:<31}{finding.detail}{advice}"

        record = {"healthy": is_healthy(findings), "findings": [asdict(f) for f in findings]}
        finish(record, "\n".join(map(line, findings)), as_json=as_json)
        if not is_healthy(findings):
            raise typer.Exit(1)
