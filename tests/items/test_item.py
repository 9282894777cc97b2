"""What a catalogue may write into an item, however odd, ends in a sentence or in nothing: never in a crash."""

from __future__ import annotations

from typing import Any

import pytest

from eoap_dask.items.item import Item, cloud_cover, finite_number, moments, normalised


def item(href: str = "a.tif", **properties: Any) -> Item:
    return {
        "type": "Feature",
        "id": "one",
        "properties": {"datetime": "2021-07-13T19:09:19Z", **properties},
        "assets": {"red": {"href": href}},
        "links": [],
    }


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "soon", 5, None])
def test_a_time_without_a_place_in_the_calendar_is_none(text: Any) -> None:
    with pytest.raises(ValueError, match="has no readable time"):
        moments(normalised(item(datetime=text), "", strip=False))


@pytest.mark.parametrize("value", [True, "12", None, [1], float("nan"), float("inf"), 10**400, -(10**400)])
def test_what_is_no_number_to_reckon_with(value: Any) -> None:
    assert finite_number(value) is None
    assert cloud_cover(item(**{"eo:cloud_cover": value})) is None


@pytest.mark.parametrize("value", [0, 12, 0.5, -1])
def test_what_is_a_number(value: float) -> None:
    assert finite_number(value) == value
    assert cloud_cover(item(**{"eo:cloud_cover": value})) == value


@pytest.mark.parametrize("href", ["//[x", "http://[", "//[::1/a.tif"])
@pytest.mark.parametrize("strip", [True, False])
def test_an_href_that_is_no_address_stays_for_others_to_refuse(href: str, strip: bool) -> None:
    found = normalised(item(href), "https://a.example.org/items/one.json", strip=strip)
    assert found["assets"]["red"]["href"] == href
