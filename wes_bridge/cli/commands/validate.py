"""``wes-bridge validate``."""

from __future__ import annotations

import click

from wes_bridge.cli.checking import check
from wes_bridge.cli.remote import json_option, put_json


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("workflow")
@click.argument("inputs", nargs=-1, type=click.UNPROCESSED)
@json_option
def validate(workflow: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Check a workflow, and its inputs if given, without running anything and without a service.

    \b
    Examples:
      wes-bridge validate examples/tutorial/words.cwl
      wes-bridge validate examples/tutorial/words.cwl examples/tutorial/words-job.yml

    Exit codes: 0 valid; 1 not valid.
    """
    words = list(inputs)
    job = words.pop(0) if words and (not words[0].startswith("-") or words[0] == "-") else None
    problems = check(workflow, job, words)
    if as_json:
        put_json({"valid": not problems, "problems": problems})
    else:
        for problem in problems:
            click.echo(problem, err=True)
        if not problems:
            click.echo(f"{workflow} is valid")
    raise SystemExit(1 if problems else 0)
