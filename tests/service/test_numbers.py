"""Numbers through the whole service: from the job file to the tool, and from its outputs to the client."""

from __future__ import annotations

import json
from pathlib import Path

from tests.service.conftest import Service

TOOL = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "requirements": {"InlineJavascriptRequirement": {}},
    "baseCommand": ["printf", "%s|%s|%s|%s"],
    "arguments": ["$(inputs.tiny)", "${ return inputs.tiny / 10; }"],
    "inputs": {
        "huge": {"type": "double", "inputBinding": {"position": 1}},
        "id": {"type": "long", "inputBinding": {"position": 2}},
        "tiny": "double",
    },
    "stdout": "line.txt",
    "outputs": {
        "line": {
            "type": "string",
            "outputBinding": {"glob": "line.txt", "loadContents": True, "outputEval": "$(self[0].contents)"},
        },
        "id": {"type": "long", "outputBinding": {"outputEval": "$(inputs.id)"}},
        "computed": {"type": "double", "outputBinding": {"outputEval": "$(inputs.tiny * 2)"}},
    },
}


def test_numbers_reach_the_tool_in_decimals_and_come_back_exactly(service: Service, tmp_path: Path) -> None:
    (tmp_path / "tool.cwl").write_text(json.dumps(TOOL))
    (tmp_path / "job.yml").write_text("{tiny: 2.5e-7, huge: 6.02e+23, id: 9007199254740993}")
    run_id = service.client.submit(tmp_path / "tool.cwl", tmp_path / "job.yml")
    service.client.wait(run_id, timeout=60)
    assert service.client.run(run_id)["outputs"] == {
        "line": "0.00000025|0.000000025|602000000000000000000000|9007199254740993",
        "id": 9007199254740993,
        "computed": 5e-7,
    }
