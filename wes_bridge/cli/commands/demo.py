"""``wes-bridge demo``."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from wes_bridge.cli.exit_codes import FAILURE, INTERRUPTED, SUCCESS
from wes_bridge.cli.flow import InterruptedRunError

_NODES = ("alpha", "beta", "gamma")


@click.command()
@click.option(
    "--workdir",
    type=click.Path(path_type=Path, file_okay=False),
    default="wes-bridge-demo",
    show_default=True,
    help="For pictures, outputs, task logs and the configuration files.",
)
@click.option(
    "--policies",
    default="earliest,cheapest,greenest",
    show_default=True,
    help="One run each, in this order.",
)
@click.option(
    "--stop",
    type=click.Choice(_NODES),
    help="Node to stop half-way in one more run.  [default: the one that ran most of the last]",
)
@click.option("--no-stop", is_flag=True, help="No such run.")
@click.option("--workflow", metavar="FILE", help="A CWL workflow of yours instead of the small one.")
@click.option("--job", metavar="FILE", help="Its job file.")
@click.option("--quick", is_flag=True, help="Fewer and shorter steps.")
@click.option("--keep", is_flag=True, help="At the end, keep nodes and service running until Ctrl-C.")
@click.option("--no-picture", is_flag=True, help="Draw no timeline.")
def demo(**given: Any) -> None:
    """Show how steps of a workflow find their nodes; everything happens on this machine.

    Three ExecutionBroker nodes are started, each a process with its own calendar of bookings: alpha (fast,
    green, dear), beta (a cheap cloud) and gamma (cheapest, one step at a time, soon booked up); and a
    service that asks them for offers, step by step. The same workflow runs under several policies and lands
    on different nodes. Then it runs once more and a node is stopped half-way: what ran there is run again
    elsewhere. At the end there is a table of the runs, a few reasons, and a timeline as SVG (as PNG too,
    where matplotlib is installed).

    Takes about half a minute, needs no network, no container and no configuration. The small workflow needs
    sh, awk, sort and sleep. Ctrl-C ends it and all its processes.

    \b
    Examples:
      wes-bridge demo
      wes-bridge demo --policies cheapest,fastest,balanced --stop beta
      wes-bridge demo --quick --no-stop --workdir /tmp/demo
      wes-bridge demo --workflow examples/tutorial/words.cwl --job examples/tutorial/words-job.yml

    Policies: see docs/choosing.md. What is quoted by whom is in WORKDIR/*.yaml.

    Exit codes: 0 all runs were COMPLETE; 1 one was not, or something could not be started; 2 wrong usage;
    130 interrupted.
    """
    policies = _policies(given["policies"])
    if given["no_stop"] and given["stop"]:
        raise click.UsageError("--stop and --no-stop exclude each other.")
    if given["job"] and not given["workflow"]:
        raise click.UsageError("--job is for a workflow of yours: give --workflow too.")
    raise SystemExit(_perform(given, policies))


def _policies(text: str) -> tuple[str, ...]:
    from wes_bridge.federation.policies.registry import policy_names  # noqa: PLC0415

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    known = policy_names()
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"there is no policy {unknown[0]!r}" if unknown else "name at least one"
        raise click.BadParameter(f"{what}; there are {', '.join(known)}", param_hint="--policies")
    return names


def _perform(given: dict[str, Any], policies: tuple[str, ...]) -> int:
    from rich.console import Console  # noqa: PLC0415

    from wes_bridge.bundle import BundleError  # noqa: PLC0415
    from wes_bridge.client import WESError  # noqa: PLC0415
    from wes_bridge.demo.processes import ProcessError  # noqa: PLC0415
    from wes_bridge.demo.show import Options, Show  # noqa: PLC0415

    options = Options(
        workdir=given["workdir"],
        policies=policies,
        stop="" if given["no_stop"] else given["stop"],
        workflow=given["workflow"],
        job=given["job"],
        quick=given["quick"],
        keep=given["keep"],
        picture=not given["no_picture"],
    )
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    try:
        with _signals_interrupt():
            return SUCCESS if Show(options, console).perform() else FAILURE
    except BundleError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
    except (ProcessError, WESError, OSError) as error:
        click.echo(f"error: {error}", err=True)
    except (KeyboardInterrupt, InterruptedRunError):
        click.echo("interrupted; nodes and service are stopped", err=True)
        return INTERRUPTED
    return FAILURE


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does: with all its processes."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
