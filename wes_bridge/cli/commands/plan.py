"""``wes-bridge plan``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from wes_bridge.bundle import BundleError
from wes_bridge.cli import exit_codes, plan_view
from wes_bridge.cli.access import credentials, token_option
from wes_bridge.cli.flags import containers_option, engine_parameters, settled
from wes_bridge.cli.remote import json_option, put_json, put_table
from wes_bridge.cli.uploading import packer, upload_from_option
from wes_bridge.client import WESClient, WESError
from wes_bridge.model.run_plan import UNSUPPORTED, PlanError, RunPlan


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("workflow")
@click.argument("inputs", nargs=-1, type=click.UNPROCESSED)
@token_option
@click.option("--wes", envvar="WES_BRIDGE_URL", metavar="URL", help="The service; or set WES_BRIDGE_URL.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Without --wes: ask this configuration's brokers."
)
@click.option(
    "--engine", "engine", multiple=True, metavar="KEY=VALUE", help="An engine parameter; repeatable."
)
@containers_option
@click.option("--upload", is_flag=True, help="With --wes: upload files even if the service could read them.")
@upload_from_option
@click.option(
    "--requests",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each step's ExecutionRequest here, as JSON and YAML.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw nodes and times: FILE.svg, or FILE.png where matplotlib is installed.",
)
@json_option
def plan(workflow: str, inputs: tuple[str, ...], **given: Any) -> None:
    """Tell what a run would do, where, when and at what cost, without running it.

    The workflow is loaded and checked, and expanded as far as its inputs tell: scatters, sub-workflows,
    conditions. Every node is asked for offers for every kind of step; none is accepted. A step whose inputs
    come from other steps is asked for with what is known of it, and marked "estimated"; a scatter over a list
    that does not exist yet is "xN?"; a step that a condition may skip has a "?".

    "start" counts from now, after the steps before; "up to" is the time offered, which a real step rarely
    needs. Costs are for all elements of a row.

    \b
    Examples:
      wes-bridge plan examples/tutorial/words.cwl examples/tutorial/words-job.yml
      wes-bridge plan --picture plan.svg examples/tutorial/hello.cwl --name sky
      wes-bridge plan --wes http://127.0.0.1:8080 examples/tutorial/hello.cwl --name sky
      wes-bridge plan --requests asked examples/tutorial/hello.cwl --name sky

    Without --wes it asks nodes that are started on this machine for it, or the brokers of --config.

    With --wes it also tries your rights for every hop: for each broker that wants a token of yours, the
    service asks for one and shows it to the broker. A row without an offer says which token or which right is
    missing, and where.

    Exit codes: 0 every step has an offer; 1 a step has none, or the workflow or its inputs are not valid;
    2 wrong usage or configuration; 33 needs something unsupported.
    """
    words = list(inputs)
    job = words.pop(0) if words and (not words[0].startswith("-") or words[0] == "-") else None
    _check_usage(given)
    try:
        found = _plan(workflow, job, words, given)
        _show(found, given)
        code = _code(found)
    except BundleError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        code = exit_codes.FAILURE
    except PlanError as error:
        click.echo(f"error: {UNSUPPORTED if error.unsupported else ''}{error}", err=True)
        code = exit_codes.UNSUPPORTED if error.unsupported else exit_codes.FAILURE
    except (WESError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        code = exit_codes.FAILURE
    except KeyboardInterrupt:
        code = exit_codes.INTERRUPTED
    raise SystemExit(code)


def _check_usage(given: dict[str, Any]) -> None:
    if given["wes"] and given["config"]:
        raise click.UsageError("--config is for planning without a service; leave it out with --wes.")
    picture = given["picture"]
    if picture and picture.suffix.lower() not in (".svg", ".png"):
        raise click.BadParameter(f"{picture}: call it FILE.svg or FILE.png", param_hint="--picture")


def _plan(workflow: str, job: str | None, words: list[str], given: dict[str, Any]) -> RunPlan:
    pack = packer(workflow, job, words, given["upload_from"])
    parameters = engine_parameters(given)
    if not given["wes"]:
        from wes_bridge.cli.configure import service_config  # noqa: PLC0415
        from wes_bridge.cli.plan_here import plan_here  # noqa: PLC0415

        packed = pack(True)
        return plan_here(packed, parameters, settled(service_config, given["config"], {}))
    with WESClient(given["wes"], upload=given["upload"], **credentials(given["wes"])) as client:
        try:
            answer = client.plan_packed(pack, engine_parameters=parameters)
        except WESError as error:
            if error.msg.startswith(UNSUPPORTED):
                raise PlanError(error.msg.removeprefix(UNSUPPORTED), unsupported=True) from error
            raise
    return RunPlan.model_validate(answer)


def _show(found: RunPlan, given: dict[str, Any]) -> None:
    if given["as_json"]:
        put_json(found.model_dump(mode="json", exclude_none=True))
    else:
        put_table(plan_view.COLUMNS, plan_view.rows(found))
        for line in (*plan_view.refusals(found), *plan_view.summary(found)):
            click.echo(line)
    if given["requests"]:
        count = write_requests(found, given["requests"])
        click.echo(f"{count} requests written to {given['requests']}", err=True)
    if given["picture"]:
        _draw(found, given["picture"])


def _draw(found: RunPlan, path: Path) -> None:
    from wes_bridge.cli import plan_picture  # noqa: PLC0415

    if path.suffix.lower() == ".svg":
        path.write_text(plan_picture.svg(found), encoding="utf-8")
        return
    try:
        plan_picture.png(found, str(path))
    except ImportError:
        raise PlanError(
            "a PNG needs matplotlib, which is not installed: pip install matplotlib, or give FILE.svg"
        ) from None


def write_requests(found: RunPlan, folder: Path) -> int:
    """Write the plan's requests, each as ``NAME.json`` and ``NAME.yaml``; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for step in found.steps:
        if step.request is None:
            continue
        number += 1
        name = f"{number:03d}-" + (re.sub(r"[^A-Za-z0-9._-]+", "-", step.name).strip("-.")[:80] or "step")
        text = json.dumps(step.request, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        text = yaml.safe_dump(step.request, sort_keys=False, allow_unicode=True)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return number


def _code(found: RunPlan) -> int:
    if found.is_unsupported:
        return exit_codes.UNSUPPORTED
    if found.is_possible:
        return exit_codes.SUCCESS
    refused = len(found.refused)
    if refused:
        sys.stderr.write(f"{refused} of {len(found.steps)} rows have no offer\n")
    return exit_codes.FAILURE
