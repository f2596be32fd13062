"""``wes-bridge validate``."""

from __future__ import annotations

import click

from wes_bridge.cli.checking import check
from wes_bridge.cli.remote import json_option, put_json


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("workflow")
@click.argument("inputs", nargs=-1, type=click.UNPROCESSED)
@click.option("--skip-schemas", is_flag=True, help="Do not fetch what $schemas names.")
@json_option
def validate(workflow: str, inputs: tuple[str, ...], skip_schemas: bool, as_json: bool) -> None:
    """Check a workflow, and its inputs if given, without running anything and without a service.

    It is loaded as a run would load it. What may be wrong and does not keep it from being run, such as types
    that may not fit, is a warning. A document of several processes without a #main has each of them checked.

    \b
    Examples:
      wes-bridge validate examples/tutorial/words.cwl
      wes-bridge validate examples/tutorial/words.cwl examples/tutorial/words-job.yml

    Exit codes: 0 valid; 1 not valid.
    """
    words = list(inputs)
    job = words.pop(0) if words and (not words[0].startswith("-") or words[0] == "-") else None
    checked = check(workflow, job, words, skip_schemas=skip_schemas)
    problems = checked.problems
    if as_json:
        put_json({"valid": not problems, "problems": problems, "warnings": checked.warnings})
    else:
        for warning in checked.warnings:
            click.echo(f"warning: {warning}", err=True)
        for problem in problems:
            click.echo(problem, err=True)
        if not problems:
            click.echo(f"{workflow} is valid")
    raise SystemExit(1 if problems else 0)
