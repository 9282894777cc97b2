"""The command line takes items from wherever they are, and makes the same of them; what is no source is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
import pytest
import stac_geoparquet.arrow as stac_arrow
from tests.support.command_line import Done, Shell, error_of, make_shell, read_json

from eoap_dask.demo.server import DemoServer

FORMS = ("items.json", "items.ndjson", "items.parquet", "catalog", "collection-of-items.json")


@pytest.fixture(scope="module")
def forms(items: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The items of the run that users have made for years, and some that a search must leave out, in all forms."""
    folder = tmp_path_factory.mktemp("forms")
    features = json.loads(json.dumps(items["features"]))
    cloudy = json.loads(json.dumps(features[0])) | {"id": "cloudy"}
    cloudy["properties"]["eo:cloud_cover"] = 25
    late = json.loads(json.dumps(features[0])) | {"id": "late"}
    late["properties"]["datetime"] = "2021-01-01T00:00:00Z"
    features += [cloudy, late]
    (folder / "items.json").write_text(json.dumps(items))
    (folder / "collection-of-items.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (folder / "items.ndjson").write_text("\n".join(map(json.dumps, reversed(features))))
    stac_arrow.to_parquet(stac_arrow.parse_stac_items_to_arrow(features), folder / "items.parquet")
    catalog = pystac.Catalog("archive", "items")
    catalog.add_items([pystac.Item.from_dict(one) for one in features])
    catalog.normalize_and_save(str(folder / "catalog"), pystac.CatalogType.SELF_CONTAINED)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_plan(
    form: str, forms: Path, asked: tuple[Shell, Done], calm: DemoServer, tmp_path: Path
) -> None:
    """Planned over the output of the search: each of its months is finished, so the digests are those of the search."""
    done = asked[0].call("cloudless-mosaic", "--items", forms / form, "--stac", calm.url, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    searched = asked[0].call("cloudless-mosaic", "--stac", calm.url, "--dry-run", "--json")
    assert {key: value for key, value in plan.items() if key != "params"} == {
        key: value for key, value in json.loads(searched.stdout).items() if key != "params"
    }
    assert plan["params"]["items"] == str(forms / form)


@pytest.mark.long
def test_a_mosaic_of_a_table_by_url_with_a_filter(forms: Path, calm: DemoServer, shell: Shell) -> None:
    """From stac-geoparquet, by the server that has the pixels: the user names its host, so it is read from."""
    table = forms / "items.parquet"
    served = calm.catalogue.root / "served.parquet"
    served.write_bytes(table.read_bytes())
    try:
        url = f"{calm.files_url}/{served.name}"
        days = ("--start-date", "2020-11-01", "--end-date", "2020-11-30")
        done = shell.mosaic("--stac", url, "--filter", "platform = 'Sentinel-2B'", *days)
    finally:
        served.unlink()
    assert done.returncode == 0, done.stderr
    kept = read_json(shell.cwd / "monthly-mosaic" / "items.json")
    assert len(kept["features"]) > 0
    assert {one["properties"]["platform"] for one in kept["features"]} == {"Sentinel-2B"}
    assert kept["eoap:stac"] == url
    assert read_json(shell.cwd / "monthly-mosaic" / "run.json")["params"]["filter"] == "platform = 'Sentinel-2B'"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--stac", "none/catalog.json"], 2, "There is no file or directory 'none/catalog.json', given as --stac."),
        (["--items", "none.json"], 2, "There is no file or directory 'none.json', given as --items."),
        (["--stac", "../empty"], 2, "has no catalog.json or collection.json"),
        (["--items", "../broken.parquet"], 2, "it is Parquet that can't be read"),
        (["--stac", "../broken.parquet"], 2, "it is Parquet that can't be read"),
        (["--stac", "../loop.json"], 4, "leads back to"),
        (["--stac", "../other.json"], 2, "There is no collection 'sentinel-2-l2a'"),
        (["--items", "../one.json", "--filter", "eo:cloud_cover"], 2, "isn't a condition"),
        (["--items", "../one.json", "--filter", "platform = 'landsat-8'"], 3, "Try without --filter."),
        (["--items", "../one.json", "--max-cloud-cover", "3"], 3, "Lowest cloud cover seen: 3 %."),
    ],
)
def test_sources_that_are_refused(arguments: list[str], code: int, says: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    links = [{"rel": "child", "href": "loop.json"}]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "loop", "description": "", "links": links}
    (tmp_path / "loop.json").write_text(json.dumps(catalog))
    other = catalog | {"type": "Collection", "id": "sentinel-2-l1c", "links": [{"rel": "item", "href": "one.json"}]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    one = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "one",
        "collection": "sentinel-2-l2a",
        "geometry": None,
        "bbox": [-123, 47, -121, 48],
        "properties": {"datetime": "2020-10-05T19:00:00Z", "eo:cloud_cover": 3, "platform": "sentinel-2a"},
        "links": [],
        "assets": {},
    }
    (tmp_path / "one.json").write_text(json.dumps(one))
    shell = make_shell(tmp_path)
    done = shell.call("cloudless-mosaic", *arguments)
    assert done.returncode == code, done.stderr
    assert says in error_of(done)
    assert "\n" not in error_of(done).strip()
    assert shell.files() == []
