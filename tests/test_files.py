"""Names for files from untrusted ids."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.files import safe_name


@given(st.text(max_size=200))
def test_safe_name(text):
    name = safe_name(text)
    assert re.fullmatch(r"[a-z0-9_][a-z0-9._\-]{0,119}", name)
    assert ".." not in name
    assert safe_name(name) == name


def test_safe_names_stay_readable_and_distinct():
    assert safe_name("S2A_13TDE_20231008_0_L2A") == "s2a_13tde_20231008_0_l2a"
    assert safe_name("../../etc/passwd").startswith("etc-passwd-")
    assert len({safe_name(text) for text in ("a/b", "a-b", "a b", "a\\b")}) == 4
    assert len({safe_name("x" * 300 + end) for end in "ab"}) == 2
