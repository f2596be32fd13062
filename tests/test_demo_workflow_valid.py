"""Every CWL document we ship validates, without so much as a warning."""

import io
import logging
from pathlib import Path

import pytest
from cwltool.main import main as cwltool

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path for room in ("cwl", "examples", "wes_bridge/demo") for path in (ROOT / room).rglob("*.cwl")
)


def validate(path: Path) -> tuple[int, str]:
    """Return cwltool's exit code and all it says about a document."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    code = cwltool(
        ["--validate", str(path)],
        stdout=io.StringIO(),
        stderr=said,
        logger_handler=handler,
        custom_schema_callback=lambda: None,  # keeps the CWL schema between calls: a second saved each time
    )
    return code, said.getvalue()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_is_valid(path: Path) -> None:
    code, said = validate(path)
    assert code == 0, said
    assert "warning" not in said.lower()


def test_warnings_are_seen(tmp_path: Path) -> None:
    tool = tmp_path / "tool.cwl"
    tool.write_text((ROOT / "examples/tutorial/hello.cwl").read_text().replace("label:", "labels:"))
    _, said = validate(tool)
    assert "labels" in said


def test_the_demo_and_the_tutorial_are_there() -> None:
    names = {path.name for path in DOCUMENTS}
    assert {"workflow.cwl", "survey.cwl", "hello.cwl", "words.cwl", "chain.cwl"} <= names
