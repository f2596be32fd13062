"""Configuration: precedence, and every mistake told with its place."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from wes_bridge.cli.configure import dump, node_config, service_config
from wes_bridge.cli.main import cli
from wes_bridge.cli.settings import SettingsError
from wes_bridge.config import ServiceConfig


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems(file: Path | None, flags: dict | None = None, env: dict | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        service_config(file, flags or {}, env or {})
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_enough() -> None:
    assert service_config(None, {}, {}) == ServiceConfig()


def test_precedence(tmp_path: Path) -> None:
    text = "port: 1\nhost: 127.0.0.2\nname: file\nengine: {workers: 3, lease: 5}\n"
    file = write(tmp_path / "c.yaml", text)
    env = {"WES_BRIDGE_PORT": "2", "WES_BRIDGE_NAME": "env", "WES_BRIDGE_ENGINE__LEASE": "7"}
    config = service_config(file, {("port",): (3, "--port")}, env)
    assert (config.port, config.host, config.name) == (3, "127.0.0.2", "env")
    assert (config.engine.workers, config.engine.lease) == (3, 7.0)


def test_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "port: 5\n")
    assert service_config(None, {}, {"WES_BRIDGE_CONFIG": str(file)}).port == 5


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    text = "state_dir: state\nfetch: {files: [data]}\nnodes: [{name: n, state_dir: ../n}]\n"
    config = service_config(write(tmp_path / "c.yaml", text), {}, {})
    assert config.state_dir == tmp_path / "state"
    assert config.fetch.files == [tmp_path / "data"]
    assert config.nodes[0].state_dir == tmp_path.parent / "n"


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("FETCH__FILES", "/,/tmp", [Path("/"), Path("/tmp")]),
        ("FETCH__FILES", '["/"]', [Path("/")]),
        ("FETCH__PRIVATE_HOSTS", "any", ["any"]),
        ("NODES", '[{"name": "x"}]', "x"),
    ],
)
def test_lists_in_the_environment(variable: str, text: str, expected: object) -> None:
    config = service_config(None, {}, {"WES_BRIDGE_" + variable: text})
    found = {"FETCH__FILES": config.fetch.files, "FETCH__PRIVATE_HOSTS": config.fetch.private_hosts}
    assert found.get(variable, config.nodes[0].name) == expected


def test_kubernetes_variables_are_not_ours() -> None:
    env = {
        "WES_BRIDGE_PORT": "tcp://10.0.0.1:80",
        "WES_BRIDGE_SERVICE_HOST": "10.0.0.1",
        "WES_BRIDGE_PORT_80_TCP_ADDR": "10.0.0.1",
        "WES_BRIDGE_URL": "http://x",
        "WES_BRIDGE_NODE_PORT": "1",
    }
    assert service_config(None, {}, env) == ServiceConfig()


def test_all_mistakes_at_once_with_their_places(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.yaml",
        "port: 99999\n"
        "wokers: 3\n"
        "engine:\n"
        "  workers: -1\n"
        "  max_run: 3\n"
        "nodes:\n"
        "  - name: a\n"
        "  - name: a\n"
        "    port: 70\n"
        "    cors: 3\n"
        "fetch:\n"
        "  files: [nowhere]\n"
        "  private_hosts: ['a b']\n"
        "database: foo\n",
    )
    found = problems(
        file,
        {("log_level",): ("loud", "--log-level")},
        {"WES_BRIDGE_PROT": "3", "WES_BRIDGE_ENGINE__LEASE": "x", "WES_BRIDGE_BROKERS": "[1"},
    )
    expected = [
        f"{file}:1: port: must be less than or equal to 65535, not 99999",
        f"{file}:2: no setting 'wokers'; did you mean",
        f"{file}:4: engine.workers: must be greater than or equal to 0, not -1",
        f"{file}:5: no setting 'max_run' in engine; did you mean 'max_runs'?",
        f"{file}:8: nodes[1].name: 'a' is the name of nodes[0] too",
        f"{file}:10: no setting 'cors' in nodes[1]; did you mean 'cores'?",
        f"{file}:12: fetch.files[0]: {tmp_path}/nowhere is not a folder here",
        f"{file}:13: fetch.private_hosts[0]: 'a b' is neither",
        f"{file}:14: database: not a database URL",
        "--log-level: log_level: must be",
        "WES_BRIDGE_PROT: no such setting; did you mean WES_BRIDGE_PORT?",
        "WES_BRIDGE_ENGINE__LEASE: engine.lease: must be a valid number",
        "WES_BRIDGE_BROKERS: is not JSON",
    ]
    for line in expected:
        assert any(problem.startswith(line) for problem in found), (line, found)
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "c.yaml:2:1: did not find expected"),
        ("port: 1\nport: 2\n", "c.yaml:2: key 'port' is given twice"),
        ("- 1\n", "must hold settings"),
        ("engine: 3\n", "c.yaml:1: engine: "),
        ("nodes: []\n", "c.yaml:1: nodes: there are no nodes and no brokers"),
        ("nodes: [{name: 'a b'}]\n", "c.yaml:1: nodes[0].name: must be of letters"),
        ("brokers: [{name: b}]\n", "brokers[0].url: is missing"),
        ("port: 80\nnodes: [{port: 80}]\n", "c.yaml:2: nodes[0].port: 80 is the port of the service too"),
        ("nodes: [{host: 0.0.0.0}]\n", "c.yaml:1: nodes[0].host: 0.0.0.0 can be reached from other machines"),
        ("state_dir: /dev/null/x\n", "state_dir: /dev/null is not a folder"),
        ("nodes: [{container_engine: no-such-engine}]\n", "no program 'no-such-engine' here"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    found = problems(write(tmp_path / "c.yaml", text))
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "engine: {default_duration: 2h}",
            "engine.default_duration: must be an ISO 8601 duration such as PT2H",
        ),
        ("engine: {default_duration: 2h}", ", not '2h'"),
        ("engine: {default_duration: [1]}", "must be an ISO 8601 duration such as PT2H"),
        ("engine: {default_duration: PT0S}", "must be greater than or equal to 1 second, not 'PT0S'"),
        ("engine: {default_duration: -PT1H}", "must be greater than or equal to 1 second, not '-PT1H'"),
        ("engine: {default_duration: P9999D}", "must be less than or equal to 3660 days, not 'P9999D'"),
        ("engine: {default_duration: 0}", "must be greater than or equal to 1 second, not 0"),
        ("engine: {webhook_give_up: PT0S}", "no setting 'webhook_give_up'"),
        (
            "events: {webhook_give_up: PT0S}",
            "webhook_give_up: must be greater than or equal to 1 second, not 'PT0S'",
        ),
        ("nodes: [{booking: {slot: x}}]", "nodes[0].booking.slot: must be an ISO 8601 duration such as PT2H"),
        ("nodes: [{sandbox_shows: [~]}]", "nodes[0].sandbox_shows[0]: must be a path, not null"),
        ("one_cpu: ~", "not null"),
    ],
)
def test_values_are_told_as_they_are_written(tmp_path: Path, text: str, message: str) -> None:
    (found,) = problems(write(tmp_path / "c.yaml", text))
    assert message in found
    assert not any(word in found for word in ("timedelta", "pathlib", "None", "identifier")), found


@pytest.mark.parametrize("shows", ["usr,/etc", '["usr"]'])
def test_what_a_sandbox_shows_is_named_by_absolute_paths(shows: str) -> None:
    with pytest.raises(SettingsError) as caught:
        node_config(None, {}, {"WES_BRIDGE_NODE_SANDBOX_SHOWS": shows})
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith("WES_BRIDGE_NODE_SANDBOX_SHOWS: sandbox_shows[0]: must be an absolute path")
    assert "not 'usr'" in problem
    assert "Posix" not in problem


def test_deep_state_folders_have_short_socket_paths(tmp_path: Path) -> None:
    config = ServiceConfig(state_dir=tmp_path / ("x" * 120))
    assert len(str(config.wakeup_dir)) <= 80
    assert config.wakeup_dir == config.model_copy().wakeup_dir
    assert ServiceConfig(state_dir=Path("/s")).wakeup_dir == Path("/s/wakeup")


def test_no_such_file(tmp_path: Path) -> None:
    assert "No such file" in problems(tmp_path / "gone.yaml")[0]


def test_printed_configuration_can_be_read(tmp_path: Path) -> None:
    config = service_config(None, {("port",): (0, "--port")}, {})
    again = service_config(write(tmp_path / "c.yaml", dump(config)), {}, {})
    assert again.model_copy(update={"state_dir": config.state_dir}) == config


def test_node(tmp_path: Path) -> None:
    file = write(tmp_path / "n.yaml", "name: a\nport: 1\n")
    config = node_config(file, {("cores",): ("2", "--cores")}, {"WES_BRIDGE_NODE_PORT": "7"})
    assert (config.name, config.port, config.cores) == ("a", 7, 2)
    with pytest.raises(SettingsError, match="--cores: cores: must be"):
        node_config(None, {("cores",): ("x", "--cores")}, {})


LET_IN = {"WES_BRIDGE_NODE_BEHIND_PROXY": "true", "WES_BRIDGE_NODE_AUTHENTICATION__KEYS": "true"}
"""What else a node wants to be told before others can reach it."""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "node.example.org", ""])
def test_a_node_others_can_reach_must_be_told_which_data_is_theirs(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        node_config(None, {("host",): (host, "--host")}, LET_IN)
    [problem] = caught.value.problems
    assert str(problem).startswith("--host: host: ")
    assert "every file that the node's user can read" in str(problem)
    assert "data" in str(problem)
    file = write(tmp_path / "node.yaml", f"host: '{host}'\ndata: ['file:///srv/shared/', 'https://']\n")
    assert node_config(file, {}, LET_IN).data == ["file:///srv/shared/", "https://"]
    assert node_config(
        None, {}, {"WES_BRIDGE_NODE_HOST": host, "WES_BRIDGE_NODE_DATA": '["data:"]'} | LET_IN
    ).data


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_node_of_ones_own_reads_what_one_can_read_oneself(host: str) -> None:
    assert node_config(None, {("host",): (host, "--host")}, {}).data[0] == "file:///"


def test_the_flag_for_a_nodes_data() -> None:
    words = ["node", "--host", "0.0.0.0", "--data", "file:///srv/", "--data", "https://", "--print-config"]
    done = CliRunner().invoke(cli, words, env=LET_IN)
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.output)["data"] == ["file:///srv/", "https://"]
    done = CliRunner().invoke(cli, ["node", "--host", "0.0.0.0"])
    assert done.exit_code == 2
    assert "--data" in done.output


def test_the_nodes_own_command_line_refuses_too(tmp_path: Path) -> None:
    words = ["--config-json", '{"host": "0.0.0.0"}', "--state-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "wes_bridge.node.main", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "can be reached from other machines" in done.stderr
