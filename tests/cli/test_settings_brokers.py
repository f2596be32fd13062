"""Mistakes in brokers, listings and policies are found at start, with their place."""

from pathlib import Path

import pytest

from wes_bridge.cli.configure import service_config
from wes_bridge.cli.settings import SettingsError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems(file: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        service_config(file, {}, {})
    return [str(problem) for problem in caught.value.problems]


def test_brokers_listings_and_policies_are_checked_at_start(tmp_path: Path) -> None:
    (tmp_path / "listing.yaml").write_text("brokers: [{name: a}]\n")
    file = write(
        tmp_path / "c.yaml",
        "engine:\n"
        "  policy: chepest\n"
        "brokers:\n"
        "- {name: a, url: 'http://a', credentials: {env: NO_SUCH_SECRET}}\n"
        "listings:\n"
        "- {file: listing.yaml}\n"
        "- {file: missing.yaml}\n",
    )
    found = "\n".join(problems(file))
    assert f"{file}:2: engine.policy: no policy 'chepest'; known: balanced, cheapest" in found
    assert f"{file}:4: brokers[0].credentials: the variable NO_SUCH_SECRET holds no secret" in found
    assert f"{file}:6: listings[0].file: the listing" in found
    assert "brokers.0.url" in found
    assert f"{file}:7: listings[1].file: {tmp_path / 'missing.yaml'} cannot be read" in found


def test_limits_and_urls_are_checked_and_no_password_is_shown(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.yaml",
        "engine:\n"
        "  choosing: {max_cost: -1}\n"
        "brokers:\n"
        "- {name: b, url: 'http://me:secret@b'}\n"
        "- {name: c, url: 'http://c', images: {x: {locations: [r/x], digest: sha256:1}}}\n",
    )
    found = "\n".join(problems(file))
    assert f"{file}:2: engine.choosing.max_cost: must be greater than or equal to 0" in found
    assert f"{file}:4: brokers[0].url: a URL must not hold a password: use credentials" in found
    assert "secret" not in found
    assert f"{file}:5: brokers[1].images.x" in found


def test_a_service_must_be_told_what_its_brokers_speak(tmp_path: Path) -> None:
    """Only an aggregator finds that out."""
    (tmp_path / "listing.yaml").write_text("brokers: [{name: a, url: 'http://a', dialect: auto}]\n")
    file = write(tmp_path / "c.yaml", "brokers: [{name: b, url: 'http://b', dialect: auto}]\n")
    text = f"{file}:1: broker b: dialect is native or reference; auto is for brokers of an aggregator"
    assert text in "\n".join(problems(file))
    file = write(tmp_path / "d.yaml", "listings: [{file: listing.yaml}]\n")
    assert "brokers.0.dialect" in "\n".join(problems(file))
