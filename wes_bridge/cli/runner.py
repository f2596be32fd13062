"""``wes-bridge-runner``: the ``cwl-runner`` command, with a WES behind it.

Everything here is made to start fast: no click, no pydantic, nothing imported that the call does not need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wes_bridge.cli.cwltool_options import FLAGS as _IGNORED_FLAGS
from wes_bridge.cli.cwltool_options import VALUED as _IGNORED_VALUED
from wes_bridge.cli.exit_codes import (
    FAILURE,
    INTERRUPTED,
    SUCCESS,
    UNSUPPORTED,
    USAGE,
    code_of_refusal,
)
from wes_bridge.model.containers import CONTAINERS, PARAMETER
from wes_bridge.model.finite import finite_json

HELP = """\
usage: wes-bridge-runner [options] WORKFLOW [JOB] [--input value ...]

Run a CWL workflow or tool through a WES and print its output object, as any cwl-runner does. Without --wes
(or WES_BRIDGE_URL) it runs on this machine, in a private service that is gone afterwards.

  --wes URL            the service
  --outdir DIR         where outputs go (default: the working directory)
  --quiet              only errors on standard error
  --verbose, --debug   more words
  --upload             upload files even if the service could read them here
  --upload-from DIR    files that the workflow itself names may be uploaded from here, too; repeatable. Else
                       only those of its project are: its folder, or the git work tree that this is in
  --show DIR           let steps see this folder or program of this machine, read-only; repeatable
  --overrides FILE     requirements to override, as cwltool takes them
  --skip-schemas       do not fetch what $schemas names
  --tag KEY=VALUE      keep with the run; repeatable
  --engine KEY=VALUE   an engine parameter; repeatable
  --containers CHOICE  images that tools name: preferred (the default; one that is only a hint is left out
                       where no node has a container engine), required, never
  --no-container       the same as --containers never
  --state DIR          keep the private service's state in DIR
  --tool-help          print the workflow's inputs
  --validate           check only
  --version            print the version

Inputs can follow the workflow: --name value, lists by repeating, flags for booleans; --help after the
workflow tells which there are. Other options of cwltool are accepted and ignored where that does no harm.

exit codes: 0 success, 1 failure, 2 wrong usage, 33 unsupported feature, 130 interrupted
"""

_VALUED = {
    "--wes",
    "--outdir",
    "--overrides",
    "--tag",
    "--engine",
    "--state",
    "--containers",
    "--upload-from",
    "--show",
}
_FLAGS = {"--quiet", "--verbose", "--debug", "--upload", "--skip-schemas", "--no-container"}
_FLAGS |= {"--tool-help", "--validate", "--version", "--help"}
_SHORT = {"-h": "--help", "-q": "--quiet", "-v": "--verbose", "-w": "--write-summary", "-t": "--target"}


_TOLD = {
    "--enable-ext": "extensions of cwltool are not run here: one that a document requires ends its run with"
    " exit code 33, one that is a hint is passed over",
    "--enable-dev": "versions of CWL after v1.2 are not run here, and end with exit code 33",
    "--mpi-config-file": "cwltool's MPIRequirement is not run here, and ends with exit code 33",
}
"""cwltool's options without which a document would be refused, and what becomes of it here."""


class UsageError(Exception):
    """The command line makes no sense."""


@dataclass
class Call:
    """A parsed command line.

    Attributes:
        options: ours, by name; flags are ``True``; repeatable ones are lists.
        ignored: cwltool's options that do nothing here.
        workflow: path or URL.
        rest: what follows the workflow.
    """

    options: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    workflow: str | None = None
    rest: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str]) -> Call:
    """Parse a command line; everything after the workflow is left for :func:`split_rest`.

    Raises:
        UsageError: an option we do not know, or one without its value.
    """
    call, words = Call(), list(arguments)
    while words:
        if not words[0].startswith("-") or words[0] == "-":
            call.workflow, call.rest = words[0], words[1:]
            break
        _take_option(call, words)
    return call


def _take_option(call: Call, words: list[str]) -> None:
    name, equals, value = words.pop(0).partition("=")
    name = _SHORT.get(name, name)
    if name in _FLAGS:
        call.options[name] = True
    elif name in _IGNORED_FLAGS:
        call.ignored.append(name)
    elif name in _VALUED or name in _IGNORED_VALUED:
        if not equals:
            if not words:
                raise UsageError(f"{name} needs a value")
            value = words.pop(0)
        if name in _IGNORED_VALUED:
            call.ignored.append(name)
        elif name in ("--tag", "--engine", "--upload-from", "--show"):
            call.options.setdefault(name, []).append(value)
        else:
            call.options[name] = value
    else:
        raise UsageError(f"unknown option {name} (see --help)")


def split_rest(call: Call) -> tuple[str | None, list[str]]:
    """The job file and the inputs after the workflow; our own options there are taken too.

    An option that the workflow has an input for is that input.
    """
    rest = list(call.rest)
    job = rest.pop(0) if rest and (not rest[0].startswith("-") or rest[0] == "-") else None
    ours = _VALUED | _FLAGS | _IGNORED_FLAGS | _IGNORED_VALUED | set(_SHORT)
    if not any(word.partition("=")[0] in ours for word in rest):
        return job, rest
    declared = _declared(call) or {}
    inputs: list[str] = []
    while rest:
        name = rest[0].partition("=")[0]
        if name in ours and name.lstrip("-") not in declared:
            _take_option(call, rest)
        else:
            inputs.append(rest.pop(0))
    return job, inputs


def _declared(call: Call) -> dict[str, Any] | None:
    from wes_bridge.bundle.build import inputs_of, locate  # noqa: PLC0415

    return inputs_of(locate(call.workflow or ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    except UsageError as error:
        _say(f"wes-bridge-runner: {error}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter's own flush does not fail
        return FAILURE
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        from wes_bridge.cwl.errors import unexpected  # noqa: PLC0415

        _say(f"error: {unexpected(error)}")
        return FAILURE


def _main(arguments: list[str]) -> int:
    call = parse(arguments)
    if call.options.get("--version"):
        sys.stdout.write(f"wes-bridge-runner {_version()}\n")
        return SUCCESS
    if call.workflow is None:
        if not call.options.get("--help"):
            raise UsageError("no workflow given (see --help)")
        sys.stdout.write(HELP)
        return SUCCESS
    from wes_bridge.bundle.errors import BundleError  # noqa: PLC0415
    from wes_bridge.client.errors import WESError  # noqa: PLC0415

    try:
        return _do(call)
    except BundleError as error:
        for problem in error.problems:
            _say(f"error: {problem}")
    except WESError as error:
        _say(f"error: {error.msg}")
        return code_of_refusal(error.msg)
    except OSError as error:
        _say(f"error: {error}")
    return FAILURE


def _do(call: Call) -> int:
    job, inputs = split_rest(call)
    if call.options.get("--help") or call.options.get("--tool-help"):
        return _tool_help(call)
    if call.options.get("--validate"):
        return _validate(call.workflow or "", job, bool(call.options.get("--skip-schemas")))
    return _with_service(call, job, inputs)


def _with_service(call: Call, job: str | None, inputs: list[str]) -> int:
    quiet = bool(call.options.get("--quiet"))
    others = [name for name in call.ignored if name not in _TOLD]
    if others and not quiet:
        _say(f"ignored, as the service decides on it: {' '.join(others)}")
    for name, text in _TOLD.items():
        if name in call.ignored and not quiet:
            _say(f"{name}: {text}")
    url = call.options.get("--wes") or os.environ.get("WES_BRIDGE_URL")
    shows = call.options.get("--show", ())
    if url and shows:
        raise UsageError("--show is for runs on this machine: a service's nodes have sandbox_shows")
    if url:
        from wes_bridge.cli.credentials import CredentialsError, credentials  # noqa: PLC0415

        try:
            given = credentials(url)
        except CredentialsError as error:
            raise UsageError(str(error)) from error
        return _run(call, job, inputs, url, given)
    from pathlib import Path  # noqa: PLC0415

    from wes_bridge.cli.embedded import EmbeddedError, EmbeddedService, overlooked  # noqa: PLC0415

    state = call.options.get("--state")
    level = "debug" if call.options.get("--debug") else "warning"
    for line in overlooked():
        _say(line)
    try:
        with EmbeddedService(Path(state) if state else None, level, shows) as service:
            return _run(call, job, inputs, service.url(), {"token": service.token}, private=True)
    except EmbeddedError as error:
        _say(f"error: {error}")
        return FAILURE


def _run(
    call: Call,
    job: str | None,
    inputs: list[str],
    url: str,
    credentials: dict[str, Any],
    *,
    private: bool = False,
) -> int:
    from wes_bridge.bundle.build import Bundle, make_bundle  # noqa: PLC0415
    from wes_bridge.cli.delivery import deliver, make_outdir  # noqa: PLC0415
    from wes_bridge.cli.flow import (  # noqa: PLC0415
        InterruptedRunError,
        exit_code,
        reasons,
        remarks,
        see_through,
    )
    from wes_bridge.client.api import WESClient  # noqa: PLC0415

    quiet = bool(call.options.get("--quiet"))
    tell = (lambda _text: None) if quiet else _say
    overrides = _overrides(call.options.get("--overrides"))
    outdir = call.options.get("--outdir") or "."
    make_outdir(outdir)

    def pack(shared: bool) -> Bundle:
        bundle = make_bundle(
            call.workflow or "",
            job,
            arguments=inputs,
            shared=shared,
            upload_from=call.options.get("--upload-from", ()),
        )
        if overrides:
            bundle.params["cwltool:overrides"] = overrides
        return bundle

    with WESClient(url, upload=bool(call.options.get("--upload")), **credentials) as client:
        run_id = client.submit_packed(
            pack, tags=_pairs(call, "--tag"), engine_parameters=_engine_parameters(call)
        )
        tell(f"run {run_id} at {client.url}")
        try:
            see_through(client, run_id, None, _say)
        except InterruptedRunError as error:
            _say(str(error))
            return INTERRUPTED
        run = client.run(run_id)
        code = exit_code(run)
        outputs, delivered = deliver(
            client, run_id, outdir, run.get("outputs") or {}, private=private, say=_say
        )
        for line in reasons(client, run) if code != SUCCESS else remarks(run):
            (_say if code != SUCCESS else tell)(line)
        if code == SUCCESS or outputs:
            sys.stdout.write(finite_json(outputs, indent=4, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        status = {SUCCESS: "success", UNSUPPORTED: "unsupported"}.get(code, "permanentFail")
        (tell if code == SUCCESS else _say)(f"Final process status is {status}")
        return code if delivered else code or FAILURE


def _overrides(path: str | None) -> Any:
    if path is None:
        return None
    from pathlib import Path  # noqa: PLC0415

    from wes_bridge.bundle.document import read_document  # noqa: PLC0415

    data = read_document(Path(path)).data
    return data.get("cwltool:overrides", data) if isinstance(data, dict) else data


def _pairs(call: Call, name: str) -> dict[str, str]:
    pairs = {}
    for text in call.options.get(name, []):
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{name} {text}: give it as KEY=VALUE")
        pairs[key] = value
    return pairs


def _engine_parameters(call: Call) -> dict[str, str]:
    parameters = {"skip_schemas": "on"} if call.options.get("--skip-schemas") else {}
    parameters |= _pairs(call, "--engine")
    if call.options.get("--no-container"):
        parameters[PARAMETER] = "never"
    if "--containers" in call.options:
        parameters[PARAMETER] = call.options["--containers"]
        if parameters[PARAMETER] not in CONTAINERS:
            raise UsageError(f"--containers {parameters[PARAMETER]}: give one of {', '.join(CONTAINERS)}")
    return parameters


def _tool_help(call: Call) -> int:
    from wes_bridge.bundle.arguments import describe_inputs  # noqa: PLC0415

    declared = _declared(call)
    if declared is None:
        raise UsageError(f"{call.workflow}: its inputs could not be read")
    sys.stdout.write(f"usage: wes-bridge-runner {call.workflow} [JOB] [inputs]\n\ninputs:\n")
    sys.stdout.write(describe_inputs(declared) + "\n")
    return SUCCESS


def _validate(workflow: str, job: str | None, skip_schemas: bool) -> int:
    from wes_bridge.cli.checking import check  # noqa: PLC0415

    checked = check(workflow, job, skip_schemas=skip_schemas)
    for warning in checked.warnings:
        _say(f"warning: {warning}")
    for problem in checked.problems:
        _say(problem)
    sys.stdout.write(f"{workflow} is {'not ' if checked.problems else ''}valid CWL.\n")
    return FAILURE if checked.problems else SUCCESS


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415

    return metadata.version("wes-bridge")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
