"""``wes-bridge run``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from wes_bridge.bundle import BundleError
from wes_bridge.cli import delivery, exit_codes, flow, steps
from wes_bridge.cli.access import credentials, token_option
from wes_bridge.cli.embedded import EmbeddedError, EmbeddedService, overlooked
from wes_bridge.cli.flags import containers_option, engine_parameters, pairs
from wes_bridge.cli.progress import Progress
from wes_bridge.cli.remote import json_option, put_json, rich_table
from wes_bridge.cli.uploading import packer, upload_from_option
from wes_bridge.client import WESClient, WESError


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("workflow")
@click.argument("inputs", nargs=-1, type=click.UNPROCESSED)
@click.option("--wes", envvar="WES_BRIDGE_URL", metavar="URL", help="The service; or set WES_BRIDGE_URL.")
@token_option
@click.option(
    "--outdir", type=click.Path(path_type=Path, file_okay=False), default=".", help="For the outputs."
)
@click.option("--state", type=click.Path(path_type=Path), help="Keep the private service's state here.")
@click.option(
    "--show",
    "shows",
    multiple=True,
    metavar="DIR",
    help="Let steps see this folder or program of this machine, read-only; repeatable (without --wes).",
)
@click.option("--upload", is_flag=True, help="Upload files even if the service could read them here.")
@upload_from_option
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Keep with the run; repeatable.")
@click.option(
    "--engine", "engine", multiple=True, metavar="KEY=VALUE", help="An engine parameter; repeatable."
)
@containers_option
@click.option("--reuse/--no-reuse", default=None, help="Take results of equal steps of earlier runs, or not.")
@click.option("--detach", is_flag=True, help="Submit, print the run's id and leave (with --wes).")
@click.option("--quiet", is_flag=True, help="No progress and no table.")
@json_option
def run(workflow: str, inputs: tuple[str, ...], **given: Any) -> None:
    """Run a CWL workflow or tool, show how it goes, and fetch its outputs.

    Without --wes it runs on this machine: in a private service that is started for it and gone afterwards.
    WORKFLOW is a path or URL, "packed.cwl#main" too. INPUTS are a job file (YAML or JSON), or --name value,
    or both; local files are found and uploaded as needed.

    \b
    Examples:
      wes-bridge run examples/tutorial/words.cwl examples/tutorial/words-job.yml
      wes-bridge run examples/tutorial/hello.cwl --name "radio sky"
      wes-bridge run examples/tutorial/chain.cwl examples/tutorial/chain-job.yml --count 2 --outdir results
      wes-bridge run --wes http://127.0.0.1:8080 examples/tutorial/hello.cwl --name sky

    Ctrl-C cancels the run; once more leaves at once.

    Exit codes: 0 done; 1 failed; 2 wrong usage; 33 needs something unsupported; 130 interrupted.
    """
    words = list(inputs)
    job = words.pop(0) if words and (not words[0].startswith("-") or words[0] == "-") else None
    if given["detach"] and not given["wes"]:
        raise click.UsageError("--detach needs a service that stays: give --wes URL.")
    if given["shows"] and given["wes"]:
        raise click.UsageError("--show is for runs on this machine: a service's nodes have sandbox_shows.")
    try:
        code = _run(workflow, job, words, given)
    except BundleError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        code = exit_codes.FAILURE
    except (WESError, EmbeddedError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        code = exit_codes.FAILURE
    except KeyboardInterrupt:
        code = exit_codes.INTERRUPTED
    raise SystemExit(code)


@contextlib.contextmanager
def _service(given: dict[str, Any]) -> Iterator[Any]:
    """Gives a function that returns the service's URL and our credentials there."""
    if given["wes"]:
        yield lambda: (given["wes"], credentials(given["wes"]))
        return
    for line in overlooked():
        click.echo(line, err=True)
    with EmbeddedService(given["state"], shows=given["shows"]) as service:
        if not given["quiet"]:
            click.echo("starting a private service on this machine", err=True)
        yield lambda: (service.url(), {"token": service.token})


def _run(workflow: str, job: str | None, words: list[str], given: dict[str, Any]) -> int:
    pack = packer(workflow, job, words, given["upload_from"])
    tags, engine = dict(pairs(given["tags"], "--tag")), engine_parameters(given)
    if not given["detach"]:
        delivery.make_outdir(given["outdir"])
    with _service(given) as place:
        if not given["wes"]:
            pack(True)  # mistakes are told without waiting for the service
        url, known = place()
        with WESClient(url, upload=given["upload"], **known) as client:
            run_id = client.submit_packed(pack, tags=tags, engine_parameters=engine)
            if given["detach"]:
                click.echo(run_id)
                return exit_codes.SUCCESS
            return _follow(client, run_id, given)


def _follow(client: WESClient, run_id: str, given: dict[str, Any]) -> int:
    quiet = given["quiet"]
    if not quiet:
        click.echo(f"run {run_id}", err=True)
    with Progress(client, quiet=quiet) as progress:
        try:
            flow.see_through(client, run_id, progress.update, lambda text: click.echo(text, err=True))
        except flow.InterruptedRunError as error:
            click.echo(str(error), err=True)
            return exit_codes.INTERRUPTED
    log = client.run(run_id)
    code = flow.exit_code(log)
    outputs, delivered = delivery.deliver(
        client,
        run_id,
        given["outdir"],
        log.get("outputs") or {},
        private=not given["wes"],
        say=lambda text: click.echo(text, err=True),
    )
    tasks = flow.tasks_of(client, run_id) if given["as_json"] or not quiet else []
    if tasks and not quiet:
        _show_steps(tasks)
    for line in flow.reasons(client, log) if code != exit_codes.SUCCESS else flow.remarks(log):
        click.echo(line, err=True)
    if given["as_json"]:
        put_json({"run": log | {"outputs": outputs}, "tasks": tasks})
    else:
        put_json(outputs)
    if code != exit_codes.SUCCESS or not quiet:
        click.echo(f"{log.get('state')}", err=True)
    return code if delivered else code or exit_codes.FAILURE


def _show_steps(tasks: list[dict[str, Any]]) -> None:
    rows = steps.rows(tasks)
    if sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415

        Console(stderr=True).print(rich_table(steps.COLUMNS, rows))
        return
    for row in (list(steps.COLUMNS), *rows):
        click.echo("\t".join(row), err=True)
