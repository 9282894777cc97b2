"""One resolver of hrefs: rules of URLs for URLs, of paths for paths."""

from __future__ import annotations

import tempfile
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.net.resolve import is_file_url, is_url, path_part, resolve_href

URL = "https://example.org/run%20%233/items.json"

CASES = [
    # document, href, where it leads
    (URL, "B04.tif", "https://example.org/run%20%233/B04.tif"),
    (URL, "./B04.tif?sig=x", "https://example.org/run%20%233/B04.tif?sig=x"),
    (URL, "../other/B04.tif", "https://example.org/other/B04.tif"),
    (URL, "/B04.tif", "https://example.org/B04.tif"),
    (URL, "//cdn.example.org/B04.tif", "https://cdn.example.org/B04.tif"),
    (URL, "run 4/B04.tif", "https://example.org/run%20%233/run%204/B04.tif"),
    (URL, "B#4.tif", "https://example.org/run%20%233/B#4.tif"),  # a fragment, as in any URL
    (URL, "https://other.org/a/../B04.tif", "https://other.org/a/../B04.tif"),  # for check_href to refuse
    (URL, "file:///etc/passwd", "file:///etc/passwd"),
    (URL, "file:/etc/passwd", "file:/etc/passwd"),
    (URL, "/vsizip/x.zip/a.tif", "/vsizip/x.zip/a.tif"),
    (URL, "https://[bad/B04.tif", "https://[bad/B04.tif"),
    ("/data/run #3/items.json", "B04.tif", "/data/run #3/B04.tif"),
    ("/data/run #3/items.json", "./B04.tif", "/data/run #3/./B04.tif"),
    ("/data/what?/items.json", "../B04.tif", "/data/what?/../B04.tif"),
    ("/data/a%20b/items.json", "B04.tif", "/data/a%20b/B04.tif"),
    ("/data/items.json", "/other/B04.tif", "/other/B04.tif"),
    ("/data/items.json", "file:///other/a%20b/%C3%BC.tif", "/other/a b/ü.tif"),
    ("/data/items.json", "file://localhost/other/B04.tif", "/other/B04.tif"),
    ("/data/items.json", "FILE:/other/B04.tif", "/other/B04.tif"),
    ("/data/items.json", "file://server/share/B04.tif", "file://server/share/B04.tif"),  # another host
    ("/data/items.json", "https://example.org/B04.tif", "https://example.org/B04.tif"),
    ("/data/items.json", "s3://bucket/B04.tif", "s3://bucket/B04.tif"),
    ("/data/items.json", "data:image/tiff;base64,AAAA", "data:image/tiff;base64,AAAA"),
    ("/data/items.json", "/vsizip/x.zip/a.tif", "/vsizip/x.zip/a.tif"),
    ("/data/items.json", "//server/share/B04.tif", "//server/share/B04.tif"),
    ("file:///data/run%20%233/items.json", "B04.tif", "/data/run #3/B04.tif"),
    ("/data/items.json", "", ""),
]


@pytest.mark.parametrize(("base", "href", "leads_to"), CASES)
def test_the_table(base: str, href: str, leads_to: str) -> None:
    assert resolve_href(base, href) == leads_to


NAMES = (
    "plain",
    "run #3",
    "what?",
    "what?a=1",
    "a%20b",
    "100%",
    "%",
    "a+b & c=d",
    "Grün",
    "Gru\u0308n",
    "S2:B04",
    "a;b,c",
)
"""Names of directories and files; each is one on this disk."""

SPELLINGS = {
    "relative": lambda folder, name: name,
    "relative, with a dot": lambda folder, name: f"./{name}",
    "relative, encoded": lambda folder, name: quote(name, safe=""),
    "relative, partly encoded": lambda folder, name: name.replace("%", "%25").replace(" ", "%20"),
    "through the directory above": lambda folder, name: f"../{folder.name}/{name}",
    "the same, encoded": lambda folder, name: f"../{quote(folder.name)}/{quote(name)}",
    "with a query": lambda folder, name: f"{name}?token=x",
    "encoded, with a query": lambda folder, name: f"{quote(name)}?token=x",
    "with a fragment": lambda folder, name: f"{quote(name)}#here",
    "absolute": lambda folder, name: f"{folder}/{name}",
    "absolute, encoded": lambda folder, name: quote(f"{folder}/{name}"),
    "file URL": lambda folder, name: (folder / name).as_uri(),
    "file URL of localhost": lambda folder, name: f"file://localhost{quote(f'{folder}/{name}')}",
    "file URL as Java writes it": lambda folder, name: f"file:{quote(f'{folder}/{name}')}",
    "file URL that nobody encoded": lambda folder, name: f"file://{folder}/{name}",
    "composed": lambda folder, name: unicodedata.normalize("NFC", name),
    "decomposed": lambda folder, name: unicodedata.normalize("NFD", name),
}
"""How people name a file beside their item."""


@given(
    place=st.sampled_from(NAMES),
    folder=st.sampled_from(NAMES),
    name=st.sampled_from(NAMES),
    spelling=st.sampled_from(sorted(SPELLINGS)),
)
def test_a_file_is_found_however_it_is_spelled(place: str, folder: str, name: str, spelling: str) -> None:
    with tempfile.TemporaryDirectory() as top:
        home = Path(top).resolve() / place / folder
        home.mkdir(parents=True)
        (home / f"{name}.tif").write_text("x")
        href = SPELLINGS[spelling](home, f"{name}.tif")
        found = Path(resolve_href(f"{home}/items.json", href))
        assert found.samefile(home / f"{name}.tif"), href


@given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=30))
def test_any_name_to_the_letter_comes_first(name: str) -> None:
    """Also where another file has the name that a URL would mean."""
    with tempfile.TemporaryDirectory() as top:
        home = Path(top).resolve()
        try:
            (home / f"x{name}").write_text("x")
        except OSError:
            return  # longer than a name may be
        (home / "x").write_text("y")
        assert resolve_href(f"{home}/items.json", f"x{name}") == f"{home}/x{name}"
        assert Path(resolve_href(f"{home}/items.json", (home / f"x{name}").as_uri())).name == f"x{name}"


def test_of_two_readings_the_better_one(tmp_path: Path) -> None:
    for name in ("a b.tif", "a%20b.tif"):
        (tmp_path / name).write_text(name)
    base = f"{tmp_path}/items.json"
    assert resolve_href(base, "a%20b.tif") == f"{tmp_path}/a%20b.tif"
    assert resolve_href(base, f"file://{tmp_path}/a%20b.tif") == f"{tmp_path}/a b.tif"
    assert resolve_href(base, f"file://{tmp_path}/a%2520b.tif") == f"{tmp_path}/a%20b.tif"


def test_words_of_an_href() -> None:
    assert is_url("HTTPS://x")
    assert not is_url("a.tif?from=https://x")
    assert is_file_url("file:/a")
    assert not is_file_url("file://server/a")
    assert path_part("/data/run #3/a.jp2") == "/data/run #3/a.jp2"
    assert path_part("https://x/a%20b.jp2?c#d") == "/a%20b.jp2"
