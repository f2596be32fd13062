"""The ``wes-bridge`` command. Each subcommand's module is imported only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from wes_bridge.cli.exit_codes import FAILURE

_COMMANDS = {
    "serve": "Run the service: API, engine workers and embedded nodes.",
    "worker": "Run one engine worker by itself, beside a service with PostgreSQL.",
    "node": "Run one ExecutionBroker node by itself.",
    "aggregate": "Run an aggregator: many ExecutionBrokers behind one address.",
    "run": "Run a workflow and fetch its outputs.",
    "runs": "List runs.",
    "show": "Show one run and its steps.",
    "logs": "Print the log of a run or of one of its steps.",
    "outputs": "Print or fetch the outputs of a run.",
    "cancel": "Cancel a run.",
    "rerun": "Do a run again, without what is done.",
    "delete": "Delete a run and its files.",
    "plan": "Tell what a run would do, where, when and at what cost, without running it.",
    "login": "Sign in at a service with a code, in any browser.",
    "logout": "Forget the tokens for a service.",
    "whoami": "Tell where you are signed in, and as whom.",
    "keys": "Make, list and revoke API keys for machines.",
    "users": "Add and remove users with a name and a password, for small sites.",
    "check": "Try whether brokers see what they are said to see (for operators).",
    "clean": "Remove what is not to be kept any longer (for operators).",
    "validate": "Check a workflow and its inputs without running them.",
    "demo": "Watch a workflow find its way over three nodes, here and now.",
}
_MODULES = {"runs": "list_runs", "cancel": "change", "delete": "change", "logout": "login", "whoami": "login"}


class LazyGroup(click.Group):
    """Knows its commands by name and help line; their modules are imported when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of a workflow's life."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"wes_bridge.cli.commands.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; click itself suggests the nearest name."""
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="wes-bridge", message="%(prog)s %(version)s")
def cli() -> None:
    """Run CWL workflows on a federation of ExecutionBroker nodes, through a GA4GH WES.

    \b
    First steps:
      wes-bridge run WORKFLOW.cwl JOB.yml    run a workflow on this machine, nothing to set up
      wes-bridge demo                        three nodes, three policies, a node that fails; half a minute
      wes-bridge serve                       a service for many runs and people
      wes-bridge run --wes URL ...           run it there

    \b
    Exit codes: 0 done; 1 a run failed or the service refused; 2 wrong usage or configuration;
    33 the workflow needs something that is not supported; 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. An error that nobody foresaw is told in words; ``python -X dev`` shows its traceback."""
    try:
        return cli.main(args=arguments, prog_name="wes-bridge")
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        from wes_bridge.cwl.errors import unexpected  # noqa: PLC0415

        click.echo(f"error: {unexpected(error)}", err=True)
        return FAILURE


if __name__ == "__main__":
    sys.exit(main())
