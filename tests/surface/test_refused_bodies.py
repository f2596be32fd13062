"""Bodies that no server of ours takes, and the words that say so to the person who sent them."""

from __future__ import annotations

import gzip
import json
import sys

import httpx
import pytest

from tests.surface.conftest import Raw
from wes_bridge.cwl.errors import unexpected
from wes_bridge.model.preferences import PreferencesError, run_preferences
from wes_bridge.surface.yaml_reader import NotReadError, parse_yaml

DIGITS = "9" * 20_000
TOO_MANY = "too many digits (at most 4,300"


def posted(raw: Raw, content: bytes, **headers: str) -> httpx.Response:
    url = f"http://{raw.address[0]}:{raw.address[1]}{raw.operation}"
    said = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return httpx.post(url, content=content, headers=said, timeout=20)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_refused_in_words(raw: Raw, encoding: str) -> None:
    answer = posted(raw, gzip.compress(b"{}"), Content_Encoding=encoding)
    assert answer.status_code == 415
    assert answer.json()["message"] == "compressed bodies are not taken; send it without Content-Encoding"


def test_a_body_that_says_that_it_is_not_compressed_is_read(raw: Raw) -> None:
    assert posted(raw, b"[]", Content_Encoding="identity").status_code in (400, 422)


def test_a_number_of_many_digits_is_told_in_words(raw: Raw) -> None:
    for content in (f'{{"workflow_params": {{"n": {DIGITS}}}}}', f"[{DIGITS}]"):
        answer = posted(raw, content.encode())
        assert answer.status_code == 400
        assert "set_int_max_str_digits" not in answer.text
        assert TOO_MANY in answer.text or "number out of range" in answer.text


def test_so_is_one_in_a_form(servers: dict[str, Raw]) -> None:
    wes = servers["wes"]
    form = {"workflow_type": "CWL", "workflow_type_version": "v1.2", "workflow_url": "a.cwl"}
    url = f"http://{wes.address[0]}:{wes.address[1]}{wes.operation}"
    answer = httpx.post(url, data=form | {"workflow_params": f'{{"n": {DIGITS}}}'}, timeout=20)
    assert answer.status_code == 400
    assert TOO_MANY in json.loads(answer.text)["msg"]


def test_and_in_yaml() -> None:
    with pytest.raises(NotReadError) as told:
        parse_yaml(f"n: !!int {DIGITS}".encode())
    assert TOO_MANY in str(told.value)


def test_and_what_a_library_says_of_it() -> None:
    with pytest.raises(ValueError, match=str(sys.get_int_max_str_digits())) as raised:
        int(DIGITS)
    told = unexpected(raised.value, "making the jobs of step 'a'")
    assert told.startswith("making the jobs of step 'a': a number in it has too many digits")
    assert "internal error" not in told


def test_and_in_a_preference() -> None:
    with pytest.raises(PreferencesError) as told:
        run_preferences({"policy.weights": f'{{"cost": {DIGITS}}}'})
    assert TOO_MANY in str(told.value)
