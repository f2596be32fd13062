"""All that is replaced in cwltool, schema-salad and cwl-utils: by what, why, and written for which source.

This is the one place that assigns into these packages. What replaces something, and how, is in the module
that :class:`Patch` names. Before anything is replaced each original is compared with the one that its
replacement was written for; one warning names those that differ. ``python -m wes_bridge.cwl.patches`` shows
the comparison, and what the table would say of the releases that are installed (docs/dependencies.md).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from wes_bridge.cwl.definitions import NotThereError, forget, found, parameters, put, source_hash
from wes_bridge.cwl.files import contents, later, path_mapper
from wes_bridge.cwl.javascript import engine as javascript
from wes_bridge.cwl.loading import circles, document_checks, quick_documents, shared_tools, type_check
from wes_bridge.cwl.tools import binding, decimals, evaluating, nested_types
from wes_bridge.cwl.walking import patient, scatter_check, unique_names, waking

_logger = logging.getLogger(__name__)
_PACKAGES = ("cwltool", "schema-salad", "cwl-utils")
_CWLTOOL = "https://github.com/common-workflow-language/cwltool/"


@dataclass(frozen=True)
class Patch:
    """One thing that is replaced.

    Attributes:
        places: names that stand for it, as ``module:name``; each is made to stand for the replacement.
        replacement: ours.
        why: what is better with it.
        takes: parameters of the definition that it was written for, as
            :func:`~wes_bridge.cwl.definitions.parameters` gives them.
        source: hashes of the source of that definition, one for each text in the releases that were tried;
            none for what does not belong to the three packages: then only its name and parameters count.
        original: the definition, where it is not the first place's own name.
        part: the one method of the original, a class, that the replacement is about.
        may_be_left: whether nothing is wrong or unsafe without it, only slower or told in other words.
        upstream: where it was offered or reported.
    """

    places: tuple[str, ...]
    replacement: Any
    why: str
    takes: str = ""
    source: tuple[str, ...] = ()
    original: str = ""
    part: str = ""
    may_be_left: bool = False
    upstream: str = ""

    @property
    def standing(self) -> str:
        """What stands at its places unless it is replaced."""
        return self.original or self.places[0]

    @property
    def written_for(self) -> str:
        """The definition that it was written for."""
        return f"{self.standing}.{self.part}" if self.part else self.standing

    @property
    def is_put(self) -> bool:
        """Whether it has replaced what it replaces."""
        try:
            return all(found(place) is self.replacement for place in self.places)
        except NotThereError:
            return False

    def difference(self) -> str | None:
        """How what is there differs from what it was written for, in words; None where it does not."""
        try:
            original, definition = found(self.standing), found(self.written_for)
            moved = [place for place in self.places if found(place) is not original]
            if moved:
                return f"{', '.join(map(_shown, moved))} is not {_shown(self.standing)}"
            takes = parameters(definition)
            if takes is not None and takes != self.takes:
                return f"it takes ({takes}), not ({self.takes})"
            if self.source and source_hash(self.written_for) not in self.source:
                return "its source is another"
        except NotThereError as error:
            return str(error)
        return None

    def put(self) -> None:
        """Replace."""
        for place in self.places:
            put(place, self.replacement)


PATCHES = (
    # ---- loading
    Patch(
        places=("cwltool.load_tool:Loader",),
        replacement=quick_documents.KeptLoader,
        original="schema_salad.ref_resolver:Loader",
        part="add_context",
        why="the 230 words of CWL's context are gone through once, and not for each document",
        takes="self, newcontext",
        source=("sha256:f8dcca153852",),
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.process:Loader",),
        replacement=quick_documents.no_loader,
        original="schema_salad.ref_resolver:Loader",
        part="__init__",
        why="the loader of no document, which each tool makes for its types, is made once",
        takes="self, ctx, schemagraph=, foreign_properties=, idx=, cache=, session=, fetcher_constructor=,"
        " skip_schemas=, url_fields=, allow_attachments=, doc_cache=, salad_version=",
        source=("sha256:000a16d5beaf", "sha256:46410482d9c4"),
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.process:make_avro_schema",),
        replacement=quick_documents.make_avro_schema,
        original="schema_salad.schema:make_avro_schema",
        why="the types File, Directory and Any are made once, and not for each tool",
        takes="i, loader, metaschema_vocab=",
        source=("sha256:b9f31164efc4",),
        may_be_left=True,
    ),
    Patch(
        places=("ruamel.yaml.comments:CommentedBase.copy_attributes",),
        replacement=quick_documents.copy_attributes,
        why="line numbers and comments are not copied deeply with each copy of a mapping or a sequence",
        takes="self, t, memo=",
        source=("sha256:eb14775cd906",),
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.workflow:load_tool",),
        replacement=shared_tools.load_tool,
        original="cwltool.load_tool:load_tool",
        why="a tool is built once for all steps that hand the same down to it, so loading is linear",
        takes="argsworkflow, loadingContext=",
        source=("sha256:2219d3c52f3b",),
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.load_tool:fetch_document",),
        replacement=document_checks.fetch_document,
        why="a version of CWL that cannot be run here is told as that, with file and line",
        takes="argsworkflow, loadingContext=",
        source=("sha256:835ab61e8e84",),
        may_be_left=True,
    ),
    Patch(
        places=("schema_salad.ref_resolver:guess_format",),
        replacement=document_checks.format_of_schema,
        original="rdflib.util:guess_format",
        why="ontologies in JSON-LD are refused: rdflib would fetch their contexts from wherever they are",
        takes="fpath, fmap=",
    ),
    Patch(
        places=("cwltool.workflow:circular_dependency_checker",),
        replacement=circles.circular_dependency_checker,
        original="cwltool.checker:circular_dependency_checker",
        why="the search for circles is linear, and a chain of a thousand steps fits into Python's stack",
        takes="step_inputs",
        source=("sha256:9fddc2b1179b",),
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.workflow:static_checker",),
        replacement=type_check.static_checker,
        original="cwltool.checker:static_checker",
        why="the checker works on copies of the ports that are run, and what it doubts is a warning",
        takes="workflow_inputs, workflow_outputs, step_inputs, step_outputs, param_to_step",
        source=("sha256:d4bf0ce52430",),
    ),
    # ---- one tool
    Patch(
        places=("cwltool.builder:Builder.bind_input",),
        replacement=binding.bind_input,
        why="files of a default bring their secondary files; what is wrong is told with the input's name",
        takes="self, schema, datum, discover_secondaryFiles, lead_pos=, tail_pos=",
        source=("sha256:0dc2ba2cd69f",),
        upstream="docs/upstream/default-files-of-a-step.patch",
    ),
    Patch(
        places=("cwltool.builder:check_format",),
        replacement=binding.check_format,
        original="cwl_utils.file_formats:check_format",
        why="a file of the wrong format is told with both formats",
        takes="actual_file, input_formats, ontology",
        source=("sha256:001b096bcd66",),
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.builder:make_avsc_object",),
        replacement=nested_types.make_avsc_object,
        original="schema_salad.avro.schema:make_avsc_object",
        why="an optional list of records or enumerations without a name of their own can be bound",
        takes="json_data, names=",
        source=("sha256:e7c9580026bc",),
        upstream="docs/upstream/arrays-of-unnamed-types.patch",
    ),
    Patch(
        places=("cwltool.builder:Builder.do_eval",),
        replacement=evaluating.do_eval,
        why="a text without an expression is not evaluated; a File that an expression gives has a basename",
        takes="self, ex, context=, recursive=, strip_whitespace=",
        source=("sha256:3118702b9508",),
    ),
    Patch(
        places=("cwltool.builder:Builder.tostr",),
        replacement=decimals.as_argument,
        why="numbers reach a command line in decimals, wherever they come from",
        takes="self, value",
        source=("sha256:c901d7f82bc9",),
        upstream=f"{_CWLTOOL}issues/1831",
    ),
    Patch(
        places=("cwl_utils.expression:json_dumps", "cwltool.command_line_tool:json_dumps"),
        replacement=decimals.as_text,
        original="schema_salad.utils:json_dumps",
        why="numbers in texts and in files of a working directory are in decimals",
        takes="obj, **kwargs",
        source=("sha256:782014c1ab32",),
        upstream=f"{_CWLTOOL}issues/1831",
    ),
    Patch(
        places=("cwl_utils.expression:jshead",),
        replacement=decimals.jshead,
        why="what an expression finds is not indented, which took most of the time",
        takes="engine_config, rootvars",
        source=("sha256:b600712b974a",),
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.command_line_tool:check_adjust",),
        replacement=path_mapper.check_adjust,
        why="a file that is in two places has its path by its name, too",
        takes="accept_re, builder, file_o",
        source=("sha256:bc705a38383d",),
        upstream="docs/upstream/file-in-two-places.patch",
    ),
    Patch(
        places=(
            "cwltool.builder:content_limit_respected_read",
            "cwltool.workflow_job:content_limit_respected_read",
        ),
        replacement=contents.read_text,
        why="loadContents of a large file is an error since CWL v1.2 only",
        takes="f",
        source=("sha256:efdb8a1235fa",),
        upstream=f"{_CWLTOOL}pull/1048",
    ),
    Patch(
        places=("cwltool.command_line_tool:content_limit_respected_read_bytes",),
        replacement=contents.read_bytes,
        original="cwltool.builder:content_limit_respected_read_bytes",
        why="the same of outputs",
        takes="f",
        source=("sha256:b81971c1c3c2",),
        upstream=f"{_CWLTOOL}pull/1048",
    ),
    Patch(
        places=tuple(f"{module}:hashlib" for module in later.PLACES),
        replacement=later.HASHLIB,
        why="a file that is still at its node is not fetched to be hashed: its node has told the checksum",
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.utils:MutableMapping",),
        replacement=dict,
        original="collections.abc:MutableMapping",
        why="what is loaded or collected is made of dicts; to ask that takes a tenth as long",
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.utils:MutableSequence",),
        replacement=list,
        original="collections.abc:MutableSequence",
        why="the same of lists",
        may_be_left=True,
    ),
    Patch(
        places=("cwl_utils.types:Mapping",),
        replacement=dict,
        original="collections.abc:Mapping",
        why="the same of dicts, where it is asked whether something is a File",
        may_be_left=True,
    ),
    # ---- the walk
    Patch(
        places=(
            "cwltool.process:uniquename",
            "cwltool.command_line_tool:uniquename",
            "cwltool.workflow_job:uniquename",
        ),
        replacement=unique_names.unique_name,
        why="names for log lines are not looked for in a set that grows with every step of every run",
        takes="stem, names=",
        source=("sha256:4b9f11668837",),
        may_be_left=True,
    ),
    Patch(
        places=("cwltool.workflow:WorkflowJob",),
        replacement=patient.PatientWorkflowJob,
        original="cwltool.workflow_job:WorkflowJob",
        why="a step is looked at when something has happened to it; after a failure others go on",
        takes="workflow, runtimeContext",
        source=("sha256:1583764843e7",),
    ),
    Patch(
        places=("cwltool.workflow_job:parallel_steps",),
        replacement=waking.parallel_steps,
        why="the elements of a scatter are looked at when something has happened to them",
        takes="steps, rc, runtimeContext",
        source=("sha256:b5846a3dd911",),
    ),
    Patch(
        places=("cwltool.workflow_job:ReceiveScatterOutput",),
        replacement=waking.WakingScatter,
        why="a scatter knows in which elements something has happened",
        takes="output_callback, dest, total",
        source=("sha256:7cb7099571ba",),
    ),
    Patch(
        places=("cwltool.workflow_job:WorkflowJobLoopStep",),
        replacement=waking.WakingLoop,
        why="a loop can be asked to whom it gives its outputs",
        takes="step, container_engine",
        source=("sha256:1ddaa1c5e0a2",),
    ),
    Patch(
        places=("cwltool.workflow_job:object_from_state",),
        replacement=scatter_check.object_from_state,
        why="a scatter over what cannot be scattered over, or over too much, is refused in words",
        takes="state, params, frag_only, supportsMultipleInput, sourceField, incomplete=",
        source=("sha256:be7dffdadfc8",),
    ),
)


def install() -> None:
    """Replace all that is to be replaced, and warn of what is not what it was; once per process.

    Expressions are evaluated by QuickJS from then on, which cwl-utils lets be said.
    """
    javascript.install()
    waiting = [patch for patch in PATCHES if not patch.is_put]
    different = {patch: difference for patch in waiting if (difference := patch.difference())}
    forget()
    for patch in waiting:
        if patch not in different or not patch.may_be_left:
            patch.put()
    if different:
        _logger.warning("%s", _warning(different))


def _warning(different: dict[Patch, str]) -> str:
    releases = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    left = _listed(item for item in different.items() if item[0].may_be_left)
    put_ = _listed(item for item in different.items() if not item[0].may_be_left)
    return (
        f"wes-bridge was not tried with these releases ({releases}): parts of them that it replaces are not"
        " those that it was written for."
        + (f" Left as they are, so things may be slower or be told in other words: {left}." if left else "")
        + (f" Replaced all the same, so results may be wrong: {put_}." if put_ else "")
        + " Install the releases that wes-bridge asks for (docs/dependencies.md)"
    )


def _listed(items: Iterable[tuple[Patch, str]]) -> str:
    return "; ".join(f"{_shown(patch.written_for)} ({difference})" for patch, difference in items)


def _shown(where: str) -> str:
    return where.replace(":", ".")


def report() -> str:
    """How each original compares, with what the table would say of it: a text for whoever tries a release."""
    lines = [" ".join(f"{name} {version(name)}" for name in _PACKAGES)]
    for patch in PATCHES:
        difference = patch.difference()
        lines.append(f"{'same' if difference is None else 'DIFFERS'}  {_shown(patch.written_for)}")
        if difference is not None:
            lines += [f"    {difference}", *(f"    {line}" for line in _as_declared(patch))]
    return "\n".join(lines)


def _as_declared(patch: Patch) -> Iterable[str]:
    try:
        yield f"takes={parameters(found(patch.written_for)) or ''!r}"
        if patch.source:
            yield f"source={source_hash(patch.written_for)!r}"
    except NotThereError as error:
        yield str(error)


if __name__ == "__main__":
    sys.stdout.write(f"{report()}\n")
