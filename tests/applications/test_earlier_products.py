"""A product that is there: it is never replaced unasked, and ``overwrite``, ``update`` and ``resume`` tell apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from tests.support.heard import heard

from eoap_dask import Hooks, MosaicParams, Run, RunOptions, cloudless_mosaic
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import OutputError, StoppedError, UsageError
from eoap_dask.run.control import Control

OCTOBER, NOVEMBER, DECEMBER = (f"monthly-mosaic-2020-{month}" for month in (10, 11, 12))
NOVEMBER_ON = {"start_date": "2020-11-01"}


@dataclass
class Place:
    """A product of October and November at 400 m, and what more is to be made of it."""

    server: DemoServer
    client: Client
    out: Path

    def params(self, **changes: Any) -> MosaicParams:
        return MosaicParams(**{"stac": self.server.url, "resolution": 400.0, "end_date": "2020-11-30", **changes})

    def run(self, hooks: Hooks | None = None, **changes: Any) -> Run:
        how = {name: changes.pop(name) for name in ("overwrite", "update", "resume") if name in changes}
        return cloudless_mosaic(
            self.params(**changes), RunOptions(output_dir=self.out, **how), hooks=hooks, client=self.client
        )

    def states(self, **changes: Any) -> dict[str, tuple[str, str]]:
        how = {name: changes.pop(name) for name in ("overwrite", "update", "resume") if name in changes}
        plan = APPLICATION.dry_run(self.params(**changes), RunOptions(output_dir=self.out, **how))
        return {key: (state.kind, state.reason) for key, state in plan.states.items()}

    def refusal(self, **changes: Any) -> str:
        """Return why a run is refused, which leaves all as it is; the plan of it is refused alike."""
        before = files(self.out.parent)
        with pytest.raises(UsageError) as planned:
            self.states(**changes)
        with pytest.raises(UsageError) as run:
            self.run(**changes)
        assert str(run.value) == str(planned.value)
        assert run.value.exit_code == 2
        assert files(self.out.parent) == before
        return str(run.value).replace(str(self.out), "OUT")

    def listed(self) -> list[str]:
        links = json.loads((self.out / "catalog.json").read_text())["links"]
        return [link["href"].split("/")[1] for link in links if link["rel"] == "item"]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assets(output: Path, key: str) -> dict[str, bytes]:
    return {name: content for name, content in files(output / key).items() if not name.endswith(".json")}


def edit(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.fixture(scope="module")
def made(calm: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with local_client(Size(1, 1, 2 << 30)) as client:
        place = Place(calm, client, tmp_path_factory.mktemp("earlier") / "out")
        place.run()
        yield place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    shutil.copytree(made.out, tmp_path / "out")
    return Place(made.server, made.client, tmp_path / "out")


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What a run says."""
    with heard("INFO") as lines:
        yield lines


AOI = "-122.2,47.6,-122.0,47.7"
SHAPE = "POLYGON((-122.2 47.6, -122.0 47.6, -122.1 47.7, -122.2 47.6))"


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"resolution": 200.0}, "resolution was 400, is 200"),
        ({"crs": "EPSG:32611"}, "crs was auto, is EPSG:32611"),
        ({"bands": ("red",)}, "bands was nir, red, green, is red"),
        ({"cloud_mask": "none"}, "cloud_mask was scl, is none"),
        ({"aoi": AOI}, "aoi differs"),
        ({"aoi": SHAPE, "resolution": 20.5}, "aoi differs; resolution was 400, is 20.5"),
    ],
)
def test_another_product_is_refused_with_what_differs(place: Place, changes: dict[str, Any], differs: str) -> None:
    whole = f"OUT was made with other parameters: {differs}. A product is never replaced unasked. Try another "
    assert place.refusal(**changes) == f"{whole}output_dir, or overwrite=True to make its units with these."
    assert place.refusal(**changes, update=True) == place.refusal(**changes)
    assert place.refusal(**changes, end_date="2020-12-31") == place.refusal(**changes)
    anew = f"{whole}output_dir, or resume=False to make the whole output anew, without {OCTOBER}."
    assert place.refusal(**changes, **NOVEMBER_ON) == anew
    december = {"start_date": "2020-12-01", "end_date": "2020-12-31"}
    assert place.refusal(**changes, **december, update=True).startswith(whole)


def test_other_words_for_the_same_are_no_other_product(place: Place) -> None:
    for changes in ({"clip": False}, {"crs": "EPSG:32610"}, {"max_items": 900}, {"aoi": list(box(place))}):
        assert {state for state, _ in place.states(**changes).values()} == {"skip"}, changes


def box(place: Place) -> tuple[float, ...]:
    return tuple(float(number) for number in str(place.params().aoi).split(","))


def test_other_scenes_and_newer_algorithms_are_made_anew_and_told(place: Place, told: list[str]) -> None:
    cloudier = {"max_cloud_cover": 100.0}
    states = place.states(**cloudier)
    assert {state for state, _ in states.values()} == {"recompute"}
    place.run(**cloudier)
    for key in (OCTOBER, NOVEMBER):
        assert f"{key} is made anew: {states[key][1]}." in told
        assert states[key][1].startswith("the items changed (")
        assert states[key][1].endswith(" added, 0 gone)")

    def older(item: Any) -> None:
        item["properties"]["eoap:digest"] = "0" * 32
        item["properties"]["eoap:digest_parts"]["algorithm"] = "0" * 16

    edit(place.out / OCTOBER / f"{OCTOBER}.json", older)
    assert place.states(**cloudier) == {
        OCTOBER: ("recompute", "the algorithm changed"),
        NOVEMBER: ("skip", "unchanged"),
    }
    place.run(**cloudier)
    assert f"{OCTOBER} is made anew: the algorithm changed." in told


def test_what_newer_software_makes_of_the_same_parameters_is_no_other_product(place: Place) -> None:
    def otherwise(item: Any) -> None:
        item["properties"]["eoap:digest"] = "0" * 32
        item["properties"]["eoap:digest_parts"]["params"] = "0" * 16

    for key in (OCTOBER, NOVEMBER):
        edit(place.out / key / f"{key}.json", otherwise)
    assert f"made with other parameters: what decides the pixels of {OCTOBER} differs" in place.refusal()
    edit(place.out / "run.json", lambda run: run.update(version="0.0.1"))
    assert set(place.states().values()) == {("recompute", "the parameters changed")}
    # but units of both don't make one product
    assert f"what decides the pixels of {NOVEMBER}" in place.refusal(**NOVEMBER_ON, update=True)


def test_a_product_that_tells_less_of_its_units_is_no_more_replaced(place: Place) -> None:
    for key in (OCTOBER, NOVEMBER):
        edit(place.out / key / f"{key}.json", lambda item: item["properties"].pop("eoap:digest_parts"))
    assert set(place.states().values()) == {("skip", "unchanged")}
    assert "made with other parameters: resolution was 400, is 800." in place.refusal(resolution=800.0)
    assert "made with other parameters: aoi differs." in place.refusal(aoi=AOI)
    cloudier = place.states(max_cloud_cover=100.0)
    assert set(cloudier.values()) == {("recompute", "what it is made from changed")}


def test_overwriting_makes_the_units_asked_for_with_the_new_parameters(place: Place, told: list[str]) -> None:
    whole = Place(place.server, place.client, place.out.parent / "whole")
    whole.run(resolution=800.0)
    partly = place.refusal(resolution=800.0, **NOVEMBER_ON, overwrite=True)
    assert partly == (
        f"OUT holds {OCTOBER}, which this run wouldn't make, with other parameters: resolution was 400, is 800. "
        "overwrite=True makes what is asked for, and a product has one set of parameters. Try to ask for it as well, "
        "another output_dir, or resume=False to make the whole output anew, without it."
    )
    assert set(place.states(resolution=800.0, overwrite=True).values()) == {("recompute", "the grid changed")}
    place.run(resolution=800.0, overwrite=True)
    assert [line for line in told if "anew" in line] == [
        f"{key} is made anew: the grid changed." for key in (OCTOBER, NOVEMBER)
    ]
    for key in (OCTOBER, NOVEMBER):
        assert assets(place.out, key) == assets(whole.out, key)
    assert {state for state, _ in place.states(resolution=800.0).values()} == {"skip"}


def test_overwriting_leaves_other_units_of_the_same_parameters(place: Place) -> None:
    before = files(place.out)
    run = place.run(**NOVEMBER_ON, overwrite=True)
    assert [item["id"] for item in run.items] == [NOVEMBER]
    assert files(place.out) == before


def test_an_update_adds_units_whatever_the_dates(place: Place, told: list[str]) -> None:
    december = {"start_date": "2020-12-01", "end_date": "2020-12-31"}
    assert place.refusal(**december) == (
        f"OUT holds {OCTOBER}, {NOVEMBER}, which this run wouldn't make. Nothing is dropped from a product unasked. "
        "Try update=True to add to it, another output_dir, or resume=False to make the whole output anew, without "
        "them."
    )
    before = {key: files(place.out / key) for key in (OCTOBER, NOVEMBER)}
    assert place.states(**december, update=True) == {DECEMBER: ("new", "not there")}
    run = place.run(**december, update=True)
    assert [item["id"] for item in run.items] == [DECEMBER]
    assert f"{OCTOBER}, {NOVEMBER}: kept as they are." in told
    assert {key: files(place.out / key) for key in (OCTOBER, NOVEMBER)} == before
    assert place.listed() == [OCTOBER, NOVEMBER, DECEMBER]
    catalog, collection = (json.loads((place.out / f"{name}.json").read_text()) for name in ("catalog", "collection"))
    assert catalog["title"] == "Cloud-free mosaics, 2020-10-01 to 2020-12-31"
    assert collection["extent"]["temporal"]["interval"] == [["2020-10-01T00:00:00Z", "2020-12-31T23:59:59Z"]]
    units = json.loads((place.out / "run.json").read_text())["units"]
    assert {key: one["done"] for key, one in units.items()} == dict.fromkeys((OCTOBER, NOVEMBER, DECEMBER), True)
    assert set(place.states(end_date="2020-12-31").values()) == {("skip", "unchanged")}

    published = files(place.out)
    place.run(**december, update=True)  # there is nothing to publish
    assert files(place.out) == published
    assert [path.name for path in place.out.parent.iterdir()] == ["out"]


def test_an_update_of_nothing_makes_it(place: Place) -> None:
    shutil.rmtree(place.out)
    place.run(**NOVEMBER_ON, update=True)
    assert place.listed() == [NOVEMBER]


def test_a_unit_that_stays_must_be_whole(place: Place) -> None:
    (place.out / OCTOBER / "count.tif").write_bytes(b"other")
    before = files(place.out)
    with pytest.raises(OutputError) as refused:
        place.run(**NOVEMBER_ON, update=True)
    size = json.loads((place.out / OCTOBER / f"{OCTOBER}.json").read_text())["assets"]["count"]["file:size"]
    assert f"holds {OCTOBER}, which can't be kept: count.tif has 5 bytes instead of {size}." in str(refused.value)
    assert files(place.out) == before
    place.run(update=True)  # asked for, it is made anew
    assert set(place.states().values()) == {("skip", "unchanged")}


def test_without_resuming_the_whole_output_is_made_anew(place: Place) -> None:
    assert place.states(**NOVEMBER_ON, resolution=800.0, resume=False) == {
        NOVEMBER: ("recompute", "asked to begin anew")
    }
    place.run(**NOVEMBER_ON, resolution=800.0, resume=False)
    assert place.listed() == [NOVEMBER]
    assert not (place.out / OCTOBER).exists()


@pytest.mark.parametrize("name", ["overwrite", "update"])
def test_keeping_and_beginning_anew_are_not_combined(place: Place, name: str) -> None:
    assert place.refusal(**{name: True}, resume=False) == (
        f"{name}=True can't be combined with resume=False. The one keeps units that are there, the other makes the "
        "whole output anew. Leave one of them out."
    )


def test_what_becomes_of_an_interrupted_run(place: Place, told: list[str]) -> None:
    """Its units are taken over, made anew where they have other parameters, or removed; each is said."""
    shutil.rmtree(place.out)
    partial = place.out.with_name("out.partial")

    def interrupt(**changes: Any) -> None:
        control = Control()
        with pytest.raises(StoppedError):
            place.run(Hooks(control=control, unit_done=lambda _: control.stop()), **changes)
        assert (partial / OCTOBER / f"{OCTOBER}.json").is_file()
        told.clear()

    interrupt()
    assert place.states(resolution=800.0)[OCTOBER] == ("recompute", "the grid changed")
    place.run(resolution=800.0)
    assert f"{OCTOBER} is made anew: the grid changed." in told
    shutil.rmtree(place.out)

    interrupt()
    place.run(**NOVEMBER_ON)
    assert f"An interrupted run had finished {OCTOBER}, which this one doesn't make: removed." in told
    assert place.listed() == [NOVEMBER]
    assert not partial.exists()
    shutil.rmtree(place.out)

    interrupt()
    place.run()
    assert [line for line in told if "anew" in line or "removed" in line] == []
