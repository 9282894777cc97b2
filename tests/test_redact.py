"""What may be logged: no signature and no credential, wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.redact import redact, show_href

SECRET = "hunter2SECRET"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"https://u:{SECRET}@example.org/x.tif?sig={SECRET}#{SECRET}", "https://example.org/x.tif"),
        (
            f"GET /vsicurl/https://example.org/x.tif?a={SECRET} failed",
            "GET /vsicurl/https://example.org/x.tif failed",
        ),
        (f"HTTP 403 '/p/x.tif?x={SECRET}'", "HTTP 403 '/p/x.tif'"),
        (f"sig={SECRET} here", "sig=[redacted] here"),
        (f"st=1&se=2&sp=rl&x={SECRET}", "[redacted]"),
        (f"st=1&amp;se=2&amp;sig={SECRET}", "[redacted]"),
        (f"sig%3D{SECRET}%26se", "sig=[redacted]"),
        (f'{{"token": "{SECRET}"}}', '{"token": "[redacted]"}'),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer [redacted]"),
        (f"X-Amz-Signature={SECRET}", "X-Amz-Signature=[redacted]"),
        (f"subscription-key={SECRET}", "subscription-key=[redacted]"),
        (f"<a href='https://h/x?{SECRET}'>", "<a href='https://h/x'>"),
        (f"https://proxy.org/https://u:{SECRET}@h.org/x", "https://proxy.org/https://h.org/x"),
        ("nothing = to hide, a=b", "nothing = to hide, a=b"),
        ("http://h/x and (https://k/l)", "http://h/x and (https://k/l)"),
    ],
)
def test_redact(text, left):
    assert redact(text) == left
    assert SECRET not in redact(text)


def test_redact_takes_encoded_urls():
    text = f"/vsicurl?max_retry=3&url=https%3A%2F%2Fexample.org%2Fx.tif%3Fsig%3D{SECRET}%26se%3D1 failed"
    assert SECRET not in redact(text)
    assert redact(f"https%253A%252F%252Fu%2540example.org%252Fx%253Fsig%253D{SECRET}") == "https://example.org/x"


@given(
    st.sampled_from(["", "failed: ", "/vsicurl/", "('", "url="]),
    st.sampled_from(["https://h.org/", "http://u:p@h:80/a/", "https%3A%2F%2Fh.org%2F", "/p/a", ""]),
    st.sampled_from(["?sig=", "?x=1&sig=", "?st=1&se=2&x=", "%3Fsig%3D", " sig="]),
    st.text("abcXYZ0189+/-_.%=~", min_size=0, max_size=20),
    st.sampled_from(["", "&se=1", " more", "') x", "\n", "#frag"]),
)
def test_no_signature_survives_anywhere(before, url, query, noise, after):
    text = f"{before}{url}{query}{noise}{SECRET}{after}"
    assert SECRET not in redact(text)
    assert redact(redact(text)) == redact(text)


@given(st.text(max_size=80))
def test_redact_settles(text):
    assert redact(redact(text)) == redact(text)


def test_show_href_is_short_and_plain():
    assert show_href("https://example.org/x\n?sig=a") == "'https://example.org/x\\n?sig=[redacted]'"
    assert len(show_href("https://example.org/" + "x" * 1000)) < 210
