"""Mistakes in the stores that a node's configuration names are told at start-up, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from wes_bridge.cli.configure import node_config, service_config
from wes_bridge.cli.settings import SettingsError

DELEGATION = "delegation:\n  issuers:\n  - {issuer: 'https://i/', client_id: c}\n"
WRONG = {
    "a bucket that is none": ("s3:\n- read: [x]\n", 2, "BUCKET or BUCKET/FOLDER"),
    "a way up": ("s3:\n- read: [sky/../other]\n", 2, "must not have '.', '..'"),
    "no use": ("s3:\n- region: here\n", 2, "name what may be read"),
    "an unknown setting": ("s3:\n- read: [sky]\n  regoin: x\n", 3, "did you mean 'region'"),
    "a password": ("s3:\n- read: [sky]\n  endpoint: https://u:p@h/\n", 2, "must not hold a password"),
    "no keys there": (
        "s3:\n- read: [sky]\n  credentials: {file: nothing}\n",
        3,
        "nothing cannot be read: No such file or directory",
    ),
    "no keys in it": ("s3:\n- read: [sky]\n  credentials: {file: empty}\n", 3, "holds no pair of keys"),
    "keys of nowhere": ("s3:\n- read: [sky]\n  credentials: {}\n", 3, "give either env or file"),
    "no variables": (
        "s3:\n- read: [sky]\n  credentials: {env: WB_NO}\n",
        3,
        "the environment (WB_NO_ACCESS_KEY_ID and WB_NO_SECRET_ACCESS_KEY) holds no pair of keys",
    ),
    "one bucket twice": ("s3:\n- read: [sky]\n- read:\n  - other\n  - sky\n", 5, "sky is of s3[0], too"),
    "a web address": ("webdav:\n- url: https://h/\n", 2, "must begin with davs://"),
    "a user in it": ("webdav:\n- url: davs://u:p@h/\n", 2, "must not hold a user or a password"),
    "no host": ("webdav:\n- url: 'davs://a b/'\n", 2, "is no host name"),
    "no token": ("webdav:\n- url: davs://h/\n  token: {file: nothing}\n", 3, "nothing cannot be read"),
    "no tokens": ("webdav:\n- url: davs://h/\n  user_tokens: nothing\n", 3, "is not a folder here"),
    "nobody to make tokens": (
        "webdav:\n- url: davs://h/\n  delegation: {audience: a}\n",
        3,
        "delegation.issuers must name who makes tokens for 'a'",
    ),
    "no Authn": (
        "web:\n- url: https://h/\n  delegation: {audience: a, exchanger: authn}\n",
        3,
        "delegation.authn must say who makes tokens for 'a'",
    ),
    "two tokens": (
        "webdav:\n- url: davs://h/\n  token: {env: HOME}\n  delegation: {audience: a}\n",
        2,
        "with delegation there is no other token",
    ),
    "a user in a web address": (
        "web:\n- url: https://u:p@h/\n  delegation: {audience: a}\n",
        2,
        "must not hold a user or a password",
    ),
    "another scheme": ("web:\n- url: ftp://h/\n  delegation: {audience: a}\n", 2, "must begin with https://"),
    "a web address that goes up": ("web:\n- url: https://h/a/../b\n  delegation: {audience: a}\n", 2, "'..'"),
    "a web address of no host": (
        f"{DELEGATION}web:\n- url: 'https://a b/'\n  delegation: {{audience: a}}\n",
        5,
        "is no host name",
    ),
    "no token for web": ("web:\n- url: https://h/\n", 2, "is missing and must be given"),
    "no secret at the issuer": (
        "delegation:\n  issuers:\n  - {issuer: 'https://i/', client_id: c, secret: {file: nothing}}\n",
        3,
        "nothing cannot be read",
    ),
    "no plug-in": ("data_plugins:\n- name: rucio\n", 2, "no data scheme 'rucio' is installed; known: file"),
    "no plug-in of that kind": ("data_plugins:\n- name: s3\n", 2, "it has a section of its own"),
    "a cache below zero": ("name: x\ncache_gib: -1\n", 2, "greater than or equal to 0"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_mistake_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    text, line, says = WRONG[name]
    (tmp_path / "empty").write_text("")
    file = tmp_path / "node.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        node_config(file, {}, {})
    [problem] = caught.value.problems
    assert problem.where == f"{file}:{line}"
    assert says in problem.message


def test_stores_of_an_embedded_node(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("nodes:\n- name: a\n  webdav:\n  - url: davs://h/\n    user_tokens: nothing\n")
    with pytest.raises(SettingsError, match=r"service.yaml:5: nodes\[0\].webdav\[0\].user_tokens"):
        service_config(file, {}, {})
    (tmp_path / "nothing").mkdir()
    (tmp_path / "keys").write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
    file.write_text(
        "nodes:\n- name: a\n  webdav:\n  - url: davs://h/\n    user_tokens: nothing\n"
        "  s3:\n  - read: [sky/dr1/]\n    credentials: {file: keys}\n"
    )
    [node] = service_config(file, {}, {}).nodes
    assert node.webdav[0].user_tokens == tmp_path / "nothing"
    assert node.s3[0].read == ["sky/dr1"]
