"""``wes-bridge rerun``."""

from __future__ import annotations

from typing import Any

import click

from wes_bridge.cli import exit_codes, flow
from wes_bridge.cli.flags import containers_option, pairs
from wes_bridge.cli.remote import connected, wes_option


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--from", "again", multiple=True, metavar="STEP", help="Run this step again in any case; repeatable."
)
@click.option(
    "--set-input", "inputs", multiple=True, metavar="NAME=VALUE", help="Another input, as YAML; repeatable."
)
@click.option("--ram", multiple=True, metavar="STEP=SIZE", help="Memory for a step: fit=8GiB; repeatable.")
@click.option("--cores", multiple=True, metavar="STEP=NUMBER", help="Cores for a step; repeatable.")
@containers_option
@click.option("--wait", is_flag=True, help="Return only when the new run has ended.")
@wes_option
def rerun(run_id: str, wes: str, wait: bool, **given: Any) -> None:
    """Do a run again without what is done: a new run that takes over the steps that ended well.

    Steps that failed, and those whose inputs change, are run. STEP is a step's name as "wes-bridge show" has
    it; without an index it means all elements of a scatter.

    \b
    Examples:
      wes-bridge rerun 01J9ZV6T7XK2
      wes-bridge rerun 01J9ZV6T7XK2 --ram fit=8GiB
      wes-bridge rerun 01J9ZV6T7XK2 --from plot --set-input "colours=[red, blue]"

    Prints the id of the new run.
    """
    resources: dict[str, dict[str, Any]] = {}
    for name, form in (("ram", "STEP=SIZE"), ("cores", "STEP=NUMBER")):
        for step, amount in pairs(given[name], f"--{name}", form):
            resources.setdefault(step, {})[name] = amount
    set_inputs = dict(pairs(given["inputs"], "--set-input", "NAME=VALUE"))
    inputs = {name: _value(name, text) for name, text in set_inputs.items()}
    with connected(wes) as client:
        new_id = client.rerun(
            run_id,
            again=given["again"],
            inputs=inputs,
            resources=resources,
            containers=given["containers"],
        )
        if not wait:
            click.echo(new_id)
            return
        state = client.wait(new_id)
        click.echo(f"{new_id} {state}")
        log = client.run(new_id)
        code = flow.exit_code(log)
        for line in flow.reasons(client, log) if code != exit_codes.SUCCESS else flow.remarks(log):
            click.echo(line, err=True)
    raise SystemExit(0 if state == "COMPLETE" else 1)


def _value(name: str, text: str) -> Any:
    from wes_bridge.bundle.errors import BundleError  # noqa: PLC0415
    from wes_bridge.bundle.yaml12 import parse  # noqa: PLC0415

    try:
        value = parse(text, name)[0]
        _refuse_local(name, value)
        return value
    except BundleError as error:
        raise click.BadParameter("; ".join(error.problems), param_hint="--set-input") from error


def _refuse_local(name: str, value: Any) -> None:
    """Refuse a File or Directory by a path of this machine: a rerun sends no files."""
    if isinstance(value, list):
        for item in value:
            _refuse_local(name, item)
    elif isinstance(value, dict):
        place = value.get("path") or value.get("location")
        local = isinstance(place, str) and (place.startswith(("/", "./", "../", "~")) or "path" in value)
        if value.get("class") in ("File", "Directory") and local and "://" not in str(place):
            raise click.BadParameter(
                f"{name}: {place} is a path of this machine, and a rerun sends no files: give the file's URL"
                " as its location, or submit the workflow anew with wes-bridge run",
                param_hint="--set-input",
            )
        for item in value.values():
            _refuse_local(name, item)
