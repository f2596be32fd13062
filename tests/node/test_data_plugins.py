"""A data scheme that another package brings: found by its entry point, with settings of its own."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from wes_bridge.cli.configure import node_config
from wes_bridge.cli.settings import SettingsError
from wes_bridge.config import NodeConfig
from wes_bridge.node.staging import default_schemes
from wes_bridge.node.staging.incoming import Incoming
from wes_bridge.node.staging.plugins import scheme_names
from wes_bridge.node.staging.schemes import Wanted
from wes_bridge.plugging import PluginError

PACKAGE = """
from pydantic import BaseModel, ConfigDict
from wes_bridge.node.staging.plugins import DataPlugin
from wes_bridge.node.staging.schemes import Fetched

class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    word: str
    times: int = 1

class Echo:
    names = ("echo",)
    can_store = False

    def __init__(self, settings):
        self.settings = settings
        self.places = [f"echo:{settings.word}"]

    def refusal(self, location, *, write, directory):
        return None if location in self.places else f"this node takes only {self.places[0]}"

    def local(self, location):
        return None

    def scope(self, wanted):
        return wanted.user

    def fetch(self, wanted, target, stop, unless=""):
        target.write_text(f"{self.settings.word} for {wanted.user}\\n" * self.settings.times)
        return Fetched()

    def store(self, folder, name, location, beside):
        raise ValueError("no")

def check(settings):
    if settings.times > 3:
        yield ("settings", "times"), "must be 3 at most"

PLUGIN = DataPlugin(Settings, lambda settings, site: Echo(settings), check)
OTHER = 3
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packages as pip would leave them: one good plug-in, one that is none, and one that cannot be loaded."""
    (tmp_path / "wb_echo.py").write_text(PACKAGE)
    info = tmp_path / "wb_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wb-echo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[wes_bridge.data]\necho = wb_echo:PLUGIN\nodd = wb_echo:OTHER\nbroken = wb_nothing:PLUGIN\n"
        "file = wb_echo:OTHER\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield


def config(**settings: object) -> NodeConfig:
    return NodeConfig.model_validate({"data_plugins": [{"name": "echo", "settings": settings}]})


@pytest.mark.usefixtures("installed")
def test_a_plug_in_brings_data(tmp_path: Path) -> None:
    schemes = default_schemes(config(word="hello", times=2))
    assert schemes.refusal("echo:hello", write=False) is None
    assert schemes.refusal("echo:other", write=False) == "this node takes only echo:hello"
    assert schemes.refusal("echo:hello", write=True) == "cannot write to this"
    assert "echo:hello" in schemes.places
    scheme = schemes.get("echo:hello")
    assert scheme is not None
    found = []
    Incoming(tmp_path / "in").bring(
        scheme, Wanted("echo:hello", user="ada"), Event(), lambda path, _: found.append(path.read_text())
    )
    assert found == ["hello for ada\n" * 2]


WRONG = {
    "a word missing": ("{times: 1}", 3, "data_plugins[0].settings.word: Field required"),
    "a wrong type": (
        "{word: x, times: many}",
        3,
        "data_plugins[0].settings.times: Input should be",
    ),
    "what nobody knows": ("{word: x, tmes: 1}", 3, "data_plugins[0].settings.tmes: Extra inputs"),
    "its own check": ("{word: x, times: 4}", 3, "data_plugins[0].settings.times: must be 3 at most"),
}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", sorted(WRONG))
def test_its_settings_are_checked_at_start(tmp_path: Path, name: str) -> None:
    settings, line, says = WRONG[name]
    file = tmp_path / "node.yaml"
    file.write_text(f"data_plugins:\n- name: echo\n  settings: {settings}\n")
    with pytest.raises(SettingsError) as caught:
        node_config(file, {}, {})
    [problem] = caught.value.problems
    assert problem.where == f"{file}:{line}"
    assert says in problem.message


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("odd", "is no wes_bridge.node.staging.plugins.DataPlugin"),
        ("broken", "cannot be loaded: No module named 'wb_nothing'"),
        ("missing", "no data scheme 'missing' is installed; known: broken, echo, file, http"),
    ],
)
def test_what_is_no_plug_in_is_told(name: str, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        default_schemes(NodeConfig.model_validate({"data_plugins": [{"name": name}]}))


@pytest.mark.usefixtures("installed")
def test_ours_cannot_be_replaced() -> None:
    assert default_schemes(NodeConfig()).get("file:///") is not None


def test_ours_are_entry_points_like_any_other() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(project["entry-points"]["wes_bridge.data"]) <= set(scheme_names())
    assert set(project["entry-points"]["wes_bridge.data"]) == {"file", "http", "literal", "s3", "webdav"}
