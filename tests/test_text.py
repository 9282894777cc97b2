from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.errors import UsageError
from eoap_dask.text import parse_memory, show_memory


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
