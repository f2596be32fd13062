"""What is uploaded with a workflow: layouts, references, inputs, secondary files, bad input."""

import json
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from wes_bridge.bundle import Bundle, BundleError, make_bundle
from wes_bridge.client_host import host_id

TOOL = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: cat
inputs:
  f: {type: File, inputBinding: {position: 1}}
outputs: []
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(folder: Path, **files: str) -> None:
    for name, text in files.items():
        write(folder / name.replace("__", "/"), text)


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def names(bundle: Bundle) -> list[str]:
    return sorted(item.name for item in bundle.attachments)


def content(bundle: Bundle, name: str) -> str:
    (item,) = [item for item in bundle.attachments if item.name == name]
    return item.content.decode() if isinstance(item.content, bytes) else item.content.read_text()


def test_lone_tool(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    bundle = make_bundle("tool.cwl")
    assert (bundle.workflow_url, bundle.params, bundle.version) == ("tool.cwl", {}, "v1.2")
    assert names(bundle) == ["tool.cwl"]


def test_references_above_keep_layout(folder: Path) -> None:
    write(
        folder / "wf/main.cwl",
        """
cwlVersion: v1.2
class: Workflow
$schemas: [../onto/edam.owl, http://example.org/x.owl]
requirements:
  InlineJavascriptRequirement:
    expressionLib: [{$include: ../lib/lib.js}]
  SchemaDefRequirement:
    types: [{$import: types.yml}]
inputs:
  run: File
outputs: []
steps:
  - id: a
    run: ../tools/a.cwl#main
    in: {script: {default: {class: File, location: ../scripts/x.py}}}
    out: []
  - id: b
    run: {$import: sub/b.cwl}
    in: []
    out: []
  - {id: c, run: "#other", in: [], out: []}
  - {id: d, run: "http://example.org/d.cwl", in: [], out: []}
""",
    )
    for name in ("onto/edam.owl", "lib/lib.js", "wf/types.yml", "scripts/x.py", "wf/sub/more.yml"):
        write(folder / name, "")
    write(folder / "tools/a.cwl", TOOL)
    write(folder / "wf/sub/b.cwl", "class: Workflow\ninputs: []\nsteps: {$mixin: more.yml}\n")
    bundle = make_bundle(folder / "wf/main.cwl", upload_from=[folder])
    assert bundle.workflow_url == "wf/main.cwl"
    assert names(bundle) == sorted(
        [
            "wf/main.cwl",
            "onto/edam.owl",
            "lib/lib.js",
            "wf/types.yml",
            "tools/a.cwl",
            "scripts/x.py",
            "wf/sub/b.cwl",
            "wf/sub/more.yml",
        ]
    )


def test_recursive_documents_end(folder: Path) -> None:
    text = "class: Workflow\ninputs: []\nsteps: {x: {run: %s, in: [], out: []}}\n"
    put(folder, **{"a.cwl": text % "b.cwl", "b.cwl": text % "a.cwl"})
    assert names(make_bundle("a.cwl")) == ["a.cwl", "b.cwl"]


def test_missing_references_are_told_all_at_once_with_lines(folder: Path) -> None:
    write(
        folder / "main.cwl",
        "class: Workflow\nsteps:\n  a:\n    run: gone.cwl\n    in: []\n  b:\n    run: {$import: gone2.cwl}\n",
    )
    with pytest.raises(BundleError) as caught:
        make_bundle("main.cwl")
    assert len(caught.value.problems) == 2
    assert f"{folder}/main.cwl:4: run: 'gone.cwl' is not there" in str(caught.value)
    assert f"{folder}/main.cwl:7: $import: 'gone2.cwl'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "main.cwl:2:1:"),
        ("a: 1\na: 2", "main.cwl:2: key 'a' is given twice"),
        ("a: &x [*x]", "an alias that holds itself"),
        ("a: \x00", "main.cwl"),
    ],
)
def test_malformed_document(folder: Path, text: str, message: str) -> None:
    write(folder / "main.cwl", text)
    with pytest.raises(BundleError, match=message.replace("[", r"\[")):
        make_bundle("main.cwl")


def test_no_such_workflow(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"nothing\.cwl: no such file"):
        make_bundle("nothing.cwl")
    with pytest.raises(BundleError, match="is a folder"):
        make_bundle(".")
    (folder / "binary.cwl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="not a text file"):
        make_bundle("binary.cwl")


def test_absolute_references_are_rewritten(folder: Path) -> None:
    write(folder / "else where/t.cwl", TOOL)
    write(folder / "else where/d.txt", "d")
    main = write(
        folder / "wf/main.cwl",
        f"""class: Workflow
# stays
inputs: {{x: {{type: File, default: {{class: File, location: "file://{folder}/else%20where/d.txt"}}}}}}
steps: {{a: {{run: {folder}/else where/t.cwl#main, in: [], out: []}}}}
""",
    )
    bundle = make_bundle(main, upload_from=[folder])
    assert names(bundle) == ["inputs/1/d.txt", "inputs/1/t.cwl", "main.cwl"]
    text = content(bundle, "main.cwl")
    assert "# stays" in text
    assert '"inputs/1/d.txt"' in text
    assert 'run: "inputs/1/t.cwl#main"' in text
    assert str(folder) not in text


def test_graph_and_fragment(folder: Path) -> None:
    write(
        folder / "packed.cwl",
        json.dumps(
            {
                "cwlVersion": "v1.2",
                "$graph": [
                    {"id": "#t", "class": "CommandLineTool", "inputs": [{"id": "#t/f", "type": "File"}]},
                    {
                        "id": "#main",
                        "class": "Workflow",
                        "inputs": [{"id": "#main/b", "type": "File", "secondaryFiles": ".bai"}],
                        "steps": [{"id": "s", "run": "#t", "in": [], "out": []}],
                    },
                ],
            }
        ),
    )
    put(folder, **{"x.bam": "", "x.bam.bai": ""})
    bundle = make_bundle("packed.cwl#main", {"b": {"class": "File", "path": "x.bam"}})
    assert bundle.workflow_url == "packed.cwl#main"
    assert bundle.params["b"]["secondaryFiles"] == [{"class": "File", "location": "x.bam.bai"}]
    assert make_bundle("packed.cwl#t", {"f": {"class": "File", "path": "x.bam"}}).params == {
        "f": {"class": "File", "location": "x.bam"}
    }


def test_job_file_paths_are_relative_to_it(folder: Path) -> None:
    write(folder / "wf/tool.cwl", TOOL)
    write(folder / "jobs/data/in.txt", "x")
    write(folder / "jobs/job.yml", "f:\n  class: File\n  path: data/in.txt\nn: yes\nd: 2020-01-01\n")
    bundle = make_bundle("wf/tool.cwl", "jobs/job.yml")
    assert bundle.params == {
        "f": {"class": "File", "location": "inputs/1/in.txt"},
        "n": "yes",
        "d": "2020-01-01",
    }
    assert names(bundle) == ["inputs/1/in.txt", "tool.cwl"]


def test_missing_input_is_told_with_its_line(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    write(
        folder / "job.yml",
        "a: 1\nf:\n  class: File\n  path: gone.txt\nd: {class: Directory, path: tool.cwl}\n",
    )
    with pytest.raises(BundleError) as caught:
        make_bundle("tool.cwl", "job.yml")
    assert caught.value.problems == [
        f"{folder}/job.yml:4: File 'gone.txt' is not there ({folder}/gone.txt)",
        f"{folder}/job.yml:5: Directory 'tool.cwl' is a file ({folder}/tool.cwl)",
    ]


@pytest.mark.parametrize("text", ["- 1\n", "just words", "3"])
def test_job_that_is_no_object(folder: Path, text: str) -> None:
    write(folder / "tool.cwl", TOOL)
    write(folder / "job.yml", text)
    with pytest.raises(BundleError, match="must be an object"):
        make_bundle("tool.cwl", "job.yml")


def test_empty_job(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    write(folder / "job.yml", "# nothing\n")
    assert make_bundle("tool.cwl", "job.yml").params == {}


@pytest.mark.parametrize(
    "name", ["a b.txt", "a#b.txt", "100%.txt", "a%20b.txt", "ünï 日本.txt", 'q"u.txt', "q?.txt"]
)
def test_odd_names(folder: Path, name: str) -> None:
    write(folder / "tool.cwl", TOOL)
    write(folder / name, "x")
    bundle = make_bundle("tool.cwl", {"f": {"class": "File", "path": name}})
    location = bundle.params["f"]["location"]
    assert unquote(location) == name
    assert location == quote(name)
    assert name in names(bundle)
    again = make_bundle("tool.cwl", {"f": {"class": "File", "location": location}})
    assert again.params == bundle.params
    shared = make_bundle("tool.cwl", {"f": {"class": "File", "path": name}}, shared=True)
    assert shared.params["f"]["location"] == f"file://{folder}/{quote(name)}".replace(
        str(folder), quote(str(folder))
    )


def test_what_is_not_local_is_left_alone(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    job = {
        "f": {"class": "File", "location": "https://example.org/a%20b#c"},
        "g": {"class": "File", "path": "s3://bucket/key"},
        "h": {"class": "File", "basename": "x", "contents": "y"},
        "i": [
            {
                "class": "Directory",
                "basename": "d",
                "listing": [{"class": "File", "contents": "", "basename": "z"}],
            }
        ],
        "cwl:requirements": [{"class": "ResourceRequirement", "coresMin": 1}],
        "cwltool:overrides": {"tool.cwl": {"requirements": {}}},
        "id": "x",
    }
    bundle = make_bundle("tool.cwl", job)
    assert bundle.params == job
    assert names(bundle) == ["tool.cwl"]


def test_directories_are_uploaded(folder: Path) -> None:
    write(folder / "wf/tool.cwl", TOOL)
    write(folder / "d/a.txt")
    write(folder / "d/sub/b.txt")
    job = {"d": {"class": "Directory", "path": "d", "basename": "e"}}
    bundle = make_bundle("wf/tool.cwl", job)
    assert bundle.params["d"] == {"class": "Directory", "basename": "e", "location": "inputs/1/d"}
    assert names(bundle) == ["inputs/1/d/a.txt", "inputs/1/d/sub/b.txt", "tool.cwl"]
    above = make_bundle("wf/tool.cwl", {"d": {"class": "Directory", "path": "."}})
    assert above.params["d"]["basename"] == folder.name
    assert len(above.params["d"]["listing"]) == 2


def test_names_like_drives(folder: Path) -> None:
    write(folder / "A:x.cwl", TOOL)
    write(folder / "B:y")
    bundle = make_bundle("A:x.cwl", {"f": {"class": "File", "path": "B:y"}})
    assert bundle.workflow_url == quote(f"{folder.name}/A:x.cwl")
    assert names(bundle) == [f"{folder.name}/A:x.cwl", f"{folder.name}/B:y"]
    write(folder / "t.cwl", TOOL)
    assert names(make_bundle("t.cwl", {"f": {"class": "File", "path": "B:y"}})) == ["inputs/1/B:y", "t.cwl"]


def test_directories_with_empty_folders_become_literals(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    write(folder / "d ir/a.txt")
    write(folder / "d ir/sub/b.txt")
    (folder / "d ir/empty").mkdir()
    (folder / "d ir/loop").symlink_to(folder / "d ir")
    bundle = make_bundle("tool.cwl", {"d": {"class": "Directory", "location": "d%20ir/"}})
    assert bundle.params["d"] == {
        "class": "Directory",
        "basename": "d ir",
        "listing": [
            {"class": "File", "location": "d%20ir/a.txt"},
            {"class": "Directory", "basename": "empty", "listing": []},
            {
                "class": "Directory",
                "basename": "sub",
                "listing": [{"class": "File", "location": "d%20ir/sub/b.txt"}],
            },
        ],
    }
    assert names(bundle) == ["d ir/a.txt", "d ir/sub/b.txt", "tool.cwl"]
    assert make_bundle("tool.cwl", {"d": {"class": "Directory", "path": "d ir"}}, shared=True).params == {
        "d": {"class": "Directory", "location": f"file://{folder}/d%20ir"}
    }


@pytest.mark.parametrize(
    ("version", "field", "siblings"),
    [
        ("v1.0", "[.bai, ^.idx]", ["x.bam.bai", "x.idx"]),
        ("v1.0", "'.bai?'", []),
        ("v1.2", "'.bai?'", ["x.bam.bai"]),
        ("v1.2", "{pattern: ^^.one, required: false}", ["x.one"]),
        ("v1.2", "[{pattern: .gone, required: true}, .dir]", ["x.bam.dir/y"]),
    ],
)
def test_secondary_files_by_pattern(folder: Path, version: str, field: str, siblings: list[str]) -> None:
    write(
        folder / "tool.cwl",
        f"cwlVersion: {version}\nclass: CommandLineTool\n"
        f"inputs:\n  f: {{type: 'File[]', secondaryFiles: {field}}}\n",
    )
    for name in ("x.bam", "x.bam.bai", "x.idx", "x.one", "x.bam.dir/y"):
        write(folder / "data" / name)
    bundle = make_bundle("tool.cwl", {"f": [{"class": "File", "path": "data/x.bam"}]})
    assert names(bundle) == sorted(["tool.cwl", "data/x.bam", *(f"data/{name}" for name in siblings)])
    assert len(bundle.params["f"][0].get("secondaryFiles", [])) == len(siblings)


def test_secondary_files_of_record_fields_and_named_types(folder: Path) -> None:
    write(
        folder / "tool.cwl",
        """cwlVersion: v1.2
class: CommandLineTool
requirements:
  SchemaDefRequirement: {types: [{$import: types.yml}]}
inputs:
  r: types.yml#pair
""",
    )
    write(
        folder / "types.yml",
        "{type: record, name: pair, fields: {one: {type: File, secondaryFiles: .i}, two: File}}",
    )
    put(folder, **{"a": "", "a.i": "", "b": "", "b.i": ""})
    bundle = make_bundle(
        "tool.cwl", {"r": {"one": {"class": "File", "path": "a"}, "two": {"class": "File", "path": "b"}}}
    )
    assert names(bundle) == ["a", "a.i", "b", "tool.cwl", "types.yml"]


def test_listed_secondary_files_are_not_doubled(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL.replace("type: File", "type: File, secondaryFiles: [.i]"))
    put(folder, **{"a": "", "a.i": "", "a.j": ""})
    job = {
        "f": {
            "class": "File",
            "path": "a",
            "secondaryFiles": [{"class": "File", "path": "a.i"}, {"class": "File", "path": "a.j"}],
        }
    }
    bundle = make_bundle("tool.cwl", job)
    assert [item["location"] for item in bundle.params["f"]["secondaryFiles"]] == ["a.i", "a.j"]


def test_expression_patterns_take_siblings(folder: Path) -> None:
    write(
        folder / "tool.cwl",
        TOOL.replace("type: File", "type: File, secondaryFiles: [$(self.basename + '.q')]"),
    )
    put(folder, **{"data__a.x": "", "data__a.x.q": "", "data__other": ""})
    bundle = make_bundle("tool.cwl", {"f": {"class": "File", "path": "data/a.x"}})
    assert names(bundle) == ["data/a.x", "data/a.x.q", "tool.cwl"]
    assert "secondaryFiles" not in bundle.params["f"]


def test_default_with_secondary_files(folder: Path) -> None:
    write(
        folder / "tool.cwl",
        "class: CommandLineTool\ninputs:\n  f: {type: File, secondaryFiles: .i, "
        "default: {class: File, path: d/a}}\n  g: {type: File?, default: {class: File, path: not-there}}\n",
    )
    put(folder, **{"d__a": "", "d__a.i": ""})
    assert names(make_bundle("tool.cwl")) == ["d/a", "d/a.i", "tool.cwl"]


def test_job_imports(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    write(folder / "job.yml", "f: {$import: more/f.yml}\ns: {$include: more/s.txt}\n")
    write(folder / "more/f.yml", "{class: File, path: x}")
    put(folder, more__x="", **{"more__s.txt": "words"})
    bundle = make_bundle("tool.cwl", "job.yml")
    assert bundle.params == {"f": {"class": "File", "location": "more/x"}, "s": "words"}
    write(folder / "job.yml", "f: {$import: gone.yml}\n")
    with pytest.raises(BundleError, match=r"job.yml:1: \$import: .*gone.yml"):
        make_bundle("tool.cwl", "job.yml")


def test_job_file_names_its_tool(folder: Path) -> None:
    write(folder / "wf/tool.cwl", TOOL)
    write(folder / "job.yml", "cwl:tool: wf/tool.cwl\nx: 1\n")
    bundle = make_bundle("job.yml")
    assert bundle.workflow_url == "tool.cwl"
    assert bundle.params == {"x": 1}


def test_remote_workflow_uploads_inputs_only(folder: Path) -> None:
    put(folder, **{"data__a.x": "", "data__a.x.q": ""})
    bundle = make_bundle("ftp://example.org/w.cwl#main", {"f": {"class": "File", "path": "data/a.x"}})
    assert bundle.workflow_url == "ftp://example.org/w.cwl#main"
    assert names(bundle) == ["inputs/1/a.x", "inputs/1/a.x.q"]
    assert bundle.version is None


def test_shared_files(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    write(folder / "in.txt")
    bundle = make_bundle("tool.cwl#main", {"f": {"class": "File", "path": "in.txt"}}, shared=True)
    assert bundle.workflow_url == f"file://{folder}/tool.cwl#main"
    assert bundle.params["f"]["location"] == f"file://{folder}/in.txt"
    assert (bundle.attachments, bundle.version) == ([], "v1.2")


def test_directories_keep_their_tree(folder: Path) -> None:
    write(folder / "wf" / "tool.cwl", TOOL)
    write(folder / "data" / "ms" / "table")
    write(folder / "data" / "ms" / "sub" / "col")
    job = {"d": {"class": "Directory", "path": str(folder / "data" / "ms")}}
    bundle = make_bundle(folder / "wf" / "tool.cwl", job)
    assert bundle.params["d"] == {"class": "Directory", "location": "inputs/1/ms"}
    assert names(bundle) == ["inputs/1/ms/sub/col", "inputs/1/ms/table", "tool.cwl"]


ARGUED = """
cwlVersion: v1.2
class: Workflow
inputs:
  message: string
  n: int?
  ratio: {type: [float, "null"], default: 0.5}
  big: boolean
  files: File[]
  d: Directory
  colour: {type: {type: enum, symbols: [red, blue]}}
  r: {type: {type: record, fields: [{name: a, type: int}, {name: b, type: string?}]}}
  any: Any
"""


def test_arguments(folder: Path) -> None:
    write(folder / "wf.cwl", ARGUED)
    put(folder, **{"a b": "", "c": "", "e__x": ""})
    words = "--message=hi=there|--n|-3|--ratio|1e3|--big|--files|a b|--files|c|-d|e"
    words += "|--colour|red|--r.a|1|--r.b|x|--any|3"
    assert make_bundle("wf.cwl", {"message": "x", "kept": 1}, arguments=words.split("|")).params == {
        "message": "hi=there",
        "kept": 1,
        "n": -3,
        "ratio": 1000.0,
        "big": True,
        "files": [{"class": "File", "location": "a%20b"}, {"class": "File", "location": "c"}],
        "d": {"class": "Directory", "location": "e"},
        "colour": "red",
        "r": {"a": 1, "b": "x"},
        "any": 3,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--mesage x", "did you mean --message"),
        ("--n x", "'x' is not of type int"),
        ("--n", "-n needs a value"),
        ("--colour green", "none of red, blue"),
        ("word", "unexpected argument 'word'"),
        ("--big=maybe", "neither true nor false"),
        ("--files gone", "is not there"),
    ],
)
def test_bad_arguments(folder: Path, words: str, message: str) -> None:
    write(folder / "wf.cwl", ARGUED)
    with pytest.raises(BundleError, match=message):
        make_bundle("wf.cwl", arguments=words.split())


def test_extra_attachments(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    write(folder / "x/more.txt")
    assert names(make_bundle("tool.cwl", extra=["x/more.txt"])) == ["more.txt", "tool.cwl"]
    with pytest.raises(BundleError, match=r"is called tool\.cwl too"):
        make_bundle("tool.cwl", extra=["tool.cwl"])


def test_symbolic_links_keep_their_names(folder: Path) -> None:
    write(folder / "real/tool.cwl", TOOL)
    (folder / "link").symlink_to(folder / "real")
    assert make_bundle("link/tool.cwl").workflow_url == "tool.cwl"


def test_host_id_is_stable() -> None:
    assert host_id() == host_id()
    assert len(host_id()) == 32


def test_the_job_may_be_a_file_url(folder: Path) -> None:
    write(folder / "tool.cwl", TOOL)
    write(folder / "my job.yml", "n: 3")
    url = (folder / "my job.yml").as_uri()
    assert make_bundle("tool.cwl", url).params == {"n": 3}
