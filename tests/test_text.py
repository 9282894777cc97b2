from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.errors import UsageError
from eoap_dask.params import declarations
from eoap_dask.run.options import RunOptions
from eoap_dask.text import named_by_flags, nearest, option, parse_memory, plural, shorten, show_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *[(text, 4 * 2**30) for text in ("4G", "4Gi", "4GiB", "4 g", "4096M", "4294967296", "4294967296B")],
        ("4GB", 4 * 10**9),
        ("1.5G", 3 * 2**29),
        ("512k", 2**19),
    ],
)
def test_amounts_are_read_as_gateways_do(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "0G", "1X", "1GG", "one", "1e3", "nan", "1 2G"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"isn't an amount of memory\. Expected"):
        parse_memory(text)


@given(st.integers(1 << 20, 1 << 50))
def test_what_is_shown_is_read_by_every_gateway_and_loses_little(size: int) -> None:
    shown = show_memory(size)
    assert shown[:-1].isdigit()
    assert shown[-1] in "KMG"
    assert size - 2**20 < parse_memory(shown) <= size


def test_numbers_of_things() -> None:
    assert [plural(n, "unit") for n in (0, 1, 2)] == ["0 units", "1 unit", "2 units"]
    assert [plural(n, "pass", "passes") for n in (1, 3)] == ["1 pass", "3 passes"]


@pytest.mark.parametrize(
    ("name", "value", "in_python", "on_the_command_line"),
    [
        ("max_items", None, "max_items", "--max-items"),
        ("max_items", 1000, "max_items=1000", "--max-items 1000"),
        ("crs", "auto", "crs='auto'", "--crs auto"),
        ("filter", "a < 5", "filter='a < 5'", "--filter 'a < 5'"),
        ("resume", False, "resume=False", "--no-resume"),
        ("force", True, "force=True", "--force"),
        ("bands", ["red", "nir"], "bands=['red', 'nir']", "--bands red --bands nir"),
        ("resolution", np.float64(20), "resolution=20.0", "--resolution 20.0"),
        ("thresholds", None, "thresholds", "--threshold"),
    ],
)
def test_parameters_are_named_as_whoever_reads_them_writes_them(
    name: str, value: object, in_python: str, on_the_command_line: str
) -> None:
    assert option(name, value) == in_python
    with named_by_flags():
        assert option(name, value) == on_the_command_line
    assert option(name, value) == in_python


@pytest.mark.parametrize("params", [*(entry.params for entry in APPLICATIONS.values()), RunOptions])
def test_flags_are_those_of_the_commands(params: type) -> None:
    with named_by_flags():
        for name, (_, declared) in declarations(params).items():
            assert option(name) == "--" + (declared.flag or name.replace("_", "-"))
            if declared.negative:
                assert option(name, False) == f"--{declared.negative}"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("gren", "green"), ("B4", "B04"), ("b04", "B04"), ("B8", "B08"), ("NIR", "nir"), ("purple", None), ("", None)],
)
def test_what_may_be_meant(wrong: str, meant: str | None) -> None:
    assert nearest(wrong, ["red", "green", "nir", "B04", "B08", "B8A"]) == meant
    assert nearest(wrong, []) is None


@pytest.mark.parametrize(
    ("text", "length", "shown"),
    [
        ("a short one", 11, "a short one"),
        ("the correct driver explicitly", 24, "the correct driver…"),
        ("averylongnamewithoutblanks", 10, "averylong…"),
        ("a averylongnamewithoutblanks", 10, "a averylo…"),  # the blank is too far from the end
    ],
)
def test_a_text_is_cut_at_a_word_or_shows_that_it_was_cut(text: str, length: int, shown: str) -> None:
    assert shorten(text, length) == shown
    assert len(shown) <= length
