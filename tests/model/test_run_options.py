"""Engine parameters: read well, or refused with words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wes_bridge.model.run_options import (
    OptionsError,
    Override,
    RunOptions,
    names_step,
    parse_size,
    run_options,
    unknown_step,
)


def test_nothing_said() -> None:
    assert run_options({"policy": "cheapest", "x": "y"}) == RunOptions()


def test_resources_of_steps() -> None:
    options = run_options(
        {"resources.fit.ram": "8GiB", "resources.fit.cores": "2.5", "resources.fit[3].ram": "16 GiB"}
    )
    assert options.override(("fit[1]",)) == Override(8 * 1024**3, 2.5)
    assert options.override(("fit[3]",)) == Override(16 * 1024**3, 2.5)
    assert options.override(("fitting",)) == Override()
    assert options.override(("sub", "fit")) == Override()


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 * 1024**3), ("512 MiB", 512 * 1024**2), ("2g", 2 * 1024**3), ("4MB", 4_000_000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "8", "-1GiB", "1e3GiB", "GiB", "8 apples", "0GiB", "999999PiB", "1KiB"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(OptionsError, match=r"^resources\.fit\.ram: "):
        run_options({"resources.fit.ram": text})


@pytest.mark.parametrize(
    "parameters",
    [
        {"on_error": "halt"},
        {"reuse": "maybe"},
        {"resources.ram": "1GiB"},
        {"resources.fit": "1GiB"},
        {"resources.fit.disk": "1GiB"},
        {"resources.fit.cores": "many"},
        {"resources.fit.cores": "nan"},
        {"resources.fit.cores": "0"},
    ],
)
def test_refused_by_name(parameters: dict[str, str]) -> None:
    (name,) = parameters
    with pytest.raises(OptionsError, match=f"^{name}: ".replace(".", r"\.")):
        run_options(parameters)


@given(st.dictionaries(st.text(), st.text()))
def test_nothing_else_is_raised(parameters: dict[str, str]) -> None:
    odd = {f"resources.{key}": text for key, text in parameters.items()}
    for given_parameters in (parameters, odd):
        try:
            run_options(given_parameters)
        except OptionsError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("name", "place", "means"),
    [
        ("fit", ("fit",), True),
        ("fit", ("fit[0]",), True),
        ("fit", ("fit[0][1]",), True),
        ("fit[0]", ("fit[0]",), True),
        ("fit[0]", ("fit[1]",), False),
        ("sub", ("sub[2]", "fit"), True),
        ("sub/fit", ("sub[2]", "fit[1]"), True),
        ("fit", ("sub", "fit"), False),
        ("fi", ("fit",), False),
        ("", ("fit",), False),
        ("fit/more", ("fit",), False),
    ],
)
def test_names(name: str, place: tuple[str, ...], means: bool) -> None:
    assert names_step(name, place) is means


def test_an_unknown_step_is_told_with_those_there_are() -> None:
    assert unknown_step("fti", ["sub[1]/fit[0]", "sub[0]/fit[3]", "plot"]) == (
        "there is no step 'fti'; there are: plot, sub/fit"
    )
