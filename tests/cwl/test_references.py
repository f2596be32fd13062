"""A reference to an input has the value that cwltool gives it, although it is not read letter by letter."""

from __future__ import annotations

from typing import Any

import pytest
from cwl_utils.types import CWLObjectType
from cwltool.builder import Builder
from cwltool.errors import WorkflowException

from wes_bridge.cwl.tools import evaluating

INPUTS: dict[str, Any] = {
    "word": "a $(inputs.number) b",
    "empty": "",
    "number": 3,
    "exact": 2**60 + 1,
    "small": 1e-7,
    "yes": True,
    "nothing": None,
    "many": ["x", "y"],
    "length": 5,
    "file": {"class": "File", "location": "file:///data/a.txt", "basename": "a.txt"},
}


@pytest.fixture
def builder() -> Builder:
    """What a step evaluates with; without JavaScript."""
    made = Builder.__new__(Builder)
    job: CWLObjectType = dict(INPUTS)
    made.job, made.requirements, made.resources = job, [], {"cores": 1, "ram": 5}
    made.outdir, made.tmpdir, made.timeout, made.cwlVersion = "/out", "/tmp", 20.0, "v1.2"
    made.debug = made.js_console = made.force_docker_pull = False
    made.container_engine = "docker"
    return made


@pytest.mark.parametrize("name", list(INPUTS))
@pytest.mark.parametrize("form", ["$(inputs.{})", " $(inputs.{})\n", "$(inputs['{}'])", "is $(inputs.{})"])
def test_it_is_what_cwltool_says(builder: Builder, name: str, form: str) -> None:
    text = form.replace("{}", name)
    ours, theirs = evaluating.do_eval(builder, text), evaluating._do_eval(builder, text)
    assert (ours, type(ours)) == (theirs, type(theirs))


@pytest.mark.parametrize("text", ["$(inputs.none)", "$(inputs.word", "$(inputs.)", "$(inputs.w x)"])
def test_a_reference_to_nothing_is_refused_as_before(builder: Builder, text: str) -> None:
    with pytest.raises(WorkflowException):
        evaluating.do_eval(builder, text)


def test_white_space_is_kept_where_it_is_asked_for(builder: Builder) -> None:
    text = "$(inputs.number) "
    assert evaluating.do_eval(builder, text, strip_whitespace=False) == "3 "
