"""Addresses of kept outputs: whatever bytes a name has, it is written in one way and read again."""

from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wes_bridge.model.data_urls import DataPath, data_path_of, read_data_path, read_path

UUID = "11111111-1111-4111-8111-111111111111"
NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: not set(name) & {0, 0x2F} and name not in (b".", b"..")
)


@given(st.lists(NAMES, min_size=1, max_size=4), st.booleans())
def test_an_address_is_read_again(names: list[bytes], is_folder: bool) -> None:
    place = DataPath(UUID, "out", os.fsdecode(b"/".join(names)), is_folder)
    assert read_data_path(str(place)) == place
    assert data_path_of(f"https://node:8082{place}?signature=x") == place
    shouted = "/".join("".join(f"%{byte:02X}" for byte in name) for name in names)
    assert read_path(shouted + ("/" if is_folder else "")) == (place.path, is_folder)


def test_the_output_itself_is_a_folder() -> None:
    assert (
        read_data_path(f"/data/{UUID}/out") == read_data_path(f"/data/{UUID}/out/") == DataPath(UUID, "out")
    )
    assert str(DataPath(UUID, "out")) == f"/data/{UUID}/out/"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/data/",
        f"/data/{UUID}",
        "/data/no-uuid/out/a",
        f"/data/{UUID}/../a",
        f"/data/{UUID}/.hidden/a",
        f"/data/{UUID}/o%75t/a",
        f"/data/{UUID}/out/../a",
        f"/data/{UUID}/out/%2e%2E/a",
        f"/data/{UUID}/out/a%2fb",
        f"/data/{UUID}/out/a%00",
        f"/data/{UUID}/out//a",
        f"/data/{UUID}/out/a//",
        f"/data/{UUID}/out/a?b",
        f"/sessions/{UUID}/out/a",
    ],
)
def test_what_is_no_address_is_not_read(text: str) -> None:
    assert read_data_path(text) is None


@pytest.mark.parametrize(
    "url", [f"file:///data/{UUID}/out/", f"/data/{UUID}/out/", "https://node/", f"s3://b/data/{UUID}/out/a"]
)
def test_other_urls_are_none(url: str) -> None:
    assert data_path_of(url) is None


def test_a_server_may_be_below_a_path() -> None:
    assert data_path_of(f"https://site/broker/data/{UUID}/out/a") == DataPath(
        UUID, "out", "a", is_folder=False
    )


@pytest.mark.parametrize(
    ("scope", "asked", "covers"),
    [
        ("", "a", True),
        ("", "d/", True),
        ("d/", "d", True),
        ("d/", "d/a", True),
        ("d/", "dd", False),
        ("d/", "", False),
        ("d", "d/a", False),
        ("d", "d/", False),
        ("d", "d", True),
    ],
)
def test_a_folder_covers_what_is_in_it(scope: str, asked: str, *, covers: bool) -> None:
    def place(text: str) -> DataPath:
        return DataPath(UUID, "out", *(read_path(quote(text)) or ("", True)))

    assert place(scope).covers(place(asked)) is covers
    other = DataPath("22222222-2222-4222-8222-222222222222", "out", place(asked).path)
    assert not place(scope).covers(other)
