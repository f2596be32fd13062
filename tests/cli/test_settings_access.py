"""Who is let in: files that are missing or wrong, and settings of no use, are told before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wes_bridge.cli.configure import service_config
from wes_bridge.cli.settings import SettingsError


def problems(file: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        service_config(file, {}, {})
    return [str(problem) for problem in caught.value.problems]


def test_files_of_secrets_are_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("# ours\nann:secret\n")
    (tmp_path / "empty").write_text("\n")
    file = tmp_path / "c.yaml"
    file.write_text(
        "authentication:\n"
        "  basic: {file: users}\n"
        "  services:\n"
        "    - {name: one, file: nowhere}\n"
        "    - {name: two, file: empty}\n"
        "  oidc:\n"
        "    - issuer: https://iam.example.org/\n"
        "      audience: [wes]\n"
        "      introspection: {client_id: wes, secret: {file: absent}}\n"
    )
    found = problems(file)
    assert len(found) == 4, found
    for line, words in (
        (2, f"authentication.basic: {tmp_path / 'users'}:2: must be NAME:HASH"),
        (4, f"authentication.services[0].file: {tmp_path / 'nowhere'} cannot be read: No such file"),
        (5, f"authentication.services[1].file: {tmp_path / 'empty'} holds no secret"),
        (7, f"authentication.oidc[0]: {tmp_path / 'absent'} cannot be read: No such file"),
    ):
        assert any(text.startswith(f"{file}:{line}") and words in text for text in found), (words, found)


def test_a_missing_file_ends_the_command_before_it_starts_anything(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "c.yaml").write_text("authentication:\n  basic:\n    file: nowhere\n")
    words = ["serve", "--port=0", "--config=c.yaml", "--state=state"]
    ended = subprocess.run(
        [sys.executable, "-m", "wes_bridge.cli.main", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "authentication.basic" in ended.stderr
    assert "No such file" in ended.stderr
    assert not (tmp_path / "state").exists()


def test_settings_that_can_never_count(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "c.yaml"
    file.write_text(
        "audit: {path: missing/audit.log}\n"
        "authentication:\n"
        "  hosts: ['https://foo/x', wes.example.org, '*.example.org', '10.0.0.1', '[::1]', 'foo:80']\n"
        "  cors_origins: [foo, 'https://a.b/path', 'https://a.b', 'http://localhost:3000/']\n"
        "  admins: ['group:', ann, 'group:ska/ops', '']\n"
        "aggregator: {audit: {path: folder}}\n"
    )
    found = problems(file)
    keys = [
        "audit.path",
        *("authentication.hosts[0]", "authentication.hosts[5]"),
        *("authentication.cors_origins[0]", "authentication.cors_origins[1]"),
        *("authentication.admins[0]", "authentication.admins[3]"),
        "aggregator.audit.path",
    ]
    assert len(found) == len(keys), found
    for key in keys:
        assert any(f" {key}: " in text for text in found), (key, found)
