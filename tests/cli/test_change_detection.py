"""``change-detection`` as a command: what it refuses and plans, and the variables that it reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import geopandas
import pytest
import shapely
from tests.support.command_line import Shell, make_shell

from eoap_dask.demo.changes import ChangesArchive, make_changes
from eoap_dask.demo.process import ServerProcess


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> ChangesArchive:
    return make_changes(tmp_path_factory.mktemp("land") / "archive", rows=1, cols=3, cell_px=64)


@pytest.fixture(scope="module")
def served(land: ChangesArchive) -> Iterator[str]:
    with ServerProcess(land.root) as server:
        yield server.url


@pytest.fixture
def here(tmp_path: Path, land: ChangesArchive) -> Shell:
    shell = make_shell(tmp_path)
    shutil.copyfile(land.cells, shell.cwd / "cells.gpkg")
    return shell


def changed(**columns: object) -> Callable[[Shell], None]:
    """Another grid, with some columns replaced."""

    def change(shell: Shell) -> None:
        frame = geopandas.read_file(shell.cwd / "cells.gpkg")
        (shell.cwd / "cells.gpkg").unlink()
        for name, values in columns.items():
            if name == "geometry":
                frame = frame.set_geometry(values(frame), crs=frame.crs)  # type: ignore[operator]
            else:
                frame[name] = values
        frame.to_file(shell.cwd / "cells.gpkg", layer="cells")

    return change


def nothing(_: Shell) -> None:
    pass


def another_run(shell: Shell) -> None:
    (shell.cwd / "out.partial").mkdir()
    mark = {"software": "eoap-dask", "application": "crop-chips"}
    (shell.cwd / "out.partial" / ".eoap-dask.json").write_text(json.dumps(mark))


def somebodys_files(shell: Shell) -> None:
    (shell.cwd / "out").mkdir()
    (shell.cwd / "out" / "letter.txt").write_text("mine")


GRID = ("--grid", "cells.gpkg")
WRONG: dict[str, tuple[Callable[[Shell], None], tuple[str, ...], int, str]] = {
    "no grid": (nothing, (), 2, "--grid is missing."),
    "a grid and an area": (nothing, (*GRID, "--aoi", "15,46,15.1,46.1"), 2, "--grid can't be combined with --aoi."),
    "ids of an area": (nothing, ("--aoi", "15,46,15.1,46.1", "--grid-ids", "1"), 2, "--grid-ids can't be combined"),
    "no such file": (nothing, ("--grid", "none.gpkg"), 2, "There is no file 'none.gpkg'."),
    "no such column": (nothing, (*GRID, "--grid-id-column", "cell"), 2, "Try --grid-id-column id."),
    "unknown ids": (nothing, (*GRID, "--grid-ids", "463-470"), 2, "cells.gpkg has no cell 466, 467, 468, 469, 470."),
    "an unknown name": (nothing, (*GRID, "--grid-ids", "west"), 2, "has no cell west."),
    "ids twice": (nothing, (*GRID, "--grid-ids", "463,463-464"), 2, "--grid-ids names 463 twice."),
    "a reversed range": (nothing, (*GRID, "--grid-ids", "465-463"), 2, "is reversed."),
    "a column with ids twice": (changed(id=[1, 1, 2]), GRID, 2, "cells.gpkg has the id 1 twice."),
    "a cell without an id": (changed(id=["a", None, "c"]), GRID, 2, "has a cell without an id"),
    "ids that differ by case": (changed(id=["a", "A", "c"]), GRID, 2, "differ by case alone."),
    "a cell without geometry": (
        changed(geometry=lambda f: [f.geometry[0], None, f.geometry[2]]),
        GRID,
        2,
        "The cell 464 of cells.gpkg has no polygon that can be used: 1 empty left out.",
    ),
    "a line": (
        changed(geometry=lambda f: [f.geometry[0], shapely.LineString([(0, 0), (1, 1)]), f.geometry[2]]),
        GRID,
        2,
        "464",
    ),
    "one year": (nothing, (*GRID, "--years", "2023"), 2, "--years must name two years or more, got '2023'."),
    "reversed years": (nothing, (*GRID, "--years", "2024-2022"), 2, "The range 2024-2022 of --years is reversed."),
    "a year twice": (nothing, (*GRID, "--years", "2022,2022"), 2, "--years must rise"),
    "no year": (nothing, (*GRID, "--years", "last"), 2, "--years must be years, or a range of them, got 'last'."),
    "years before Sentinel-2": (nothing, (*GRID, "--years", "1999-2000"), 2, "--years must be from 2015 to 2100"),
    "years without data": (nothing, (*GRID, "--years", "2017-2018"), 3, "No items of sentinel-2-l2a in 2017-08"),
    "month 13": (nothing, (*GRID, "--month", "13"), 2, "--month must be from 1 to 12, got 13."),
    "a cell size between pixels": (
        nothing,
        ("--aoi", "15.6,46.4,15.7,46.5", "--cell-size", "995"),
        2,
        "--cell-size must be a multiple of the resolution of 10, got 995.",
    ),
    "no such band": (nothing, (*GRID, "--bands", "mauve"), 2, "'mauve'"),
    "degrees": (nothing, (*GRID, "--crs", "EPSG:4326"), 2, "EPSG:4326"),
    "another application's run": (another_run, (*GRID, "--output-dir", "out"), 2, "unfinished run of crop-chips"),
    "a directory with files": (somebodys_files, (*GRID, "--output-dir", "out"), 2, "wasn't made by eoap-dask"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_a_sentence(name: str, here: Shell, served: str) -> None:
    prepare, arguments, code, sentence = WRONG[name]
    prepare(here)
    before = {path.name for path in here.cwd.iterdir()}
    done = here.call("change-detection", "--stac", served, *arguments)
    assert done.returncode == code, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert sentence in error
    assert "Traceback" not in done.stderr
    assert {path.name for path in here.cwd.iterdir()} == before


def test_a_plan_tells_what_would_be_made(here: Shell, served: str) -> None:
    done = here.call("change-detection", "--stac", served, *GRID, "--dry-run", "--json", "--grid-ids", "463,465")
    plan = json.loads(done.stdout)
    assert plan["facts"] == {"cells": 2, "images": 6, "changes": 4}
    keys = [unit["key"] for unit in plan["units"]]
    assert keys == [
        *(f"images/2022/sentinel2_grid_{cell}_2022_08" for cell in (463, 465)),
        *(f"images/2023/sentinel2_grid_{cell}_2023_08" for cell in (463, 465)),
        *(f"masks/2023/change_mask_grid_{cell}_2023" for cell in (463, 465)),
        *(f"images/2024/sentinel2_grid_{cell}_2024_08" for cell in (463, 465)),
        *(f"masks/2024/change_mask_grid_{cell}_2024" for cell in (463, 465)),
    ]
    (needs,) = [unit["needs"] for unit in plan["units"] if unit["key"] == "masks/2024/change_mask_grid_465_2024"]
    assert needs == [f"images/{year}/sentinel2_grid_465_{year}_08" for year in (2023, 2024)]


def test_variables_count_after_options(here: Shell, served: str) -> None:
    environ = {"DATA_DIR": "data", "LOG_LEVEL": "ERROR", "MAX_WORKERS": "1", "DB_HOST": "db"}
    arguments = ("change-detection", "--stac", served, *GRID, "--dry-run", "--json")
    quiet = here.call(*arguments, env=environ)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert (
        json.loads(quiet.stdout)["cluster"]["workers"] * json.loads(quiet.stdout)["cluster"]["threads_per_worker"] == 1
    )
    told = here.call(*arguments, env={**environ, "LOG_LEVEL": "INFO"})
    assert "Warning: DB_HOST is read by nothing yet" in told.stderr
    assert here.call("change-detection", "status", env=environ).stderr.startswith("Error: No run has written to data.")
    assert (
        "written to own."
        in here.call("change-detection", "status", env={**environ, "EOAP_DASK_OUTPUT_DIR": "own"}).stderr
    )
    assert "written to mine." in here.call("change-detection", "status", "--output-dir", "mine", env=environ).stderr
    refused = here.call(*arguments, env={"PIPELINE_MODE": "hybrid"})
    assert (refused.returncode, "still to come" in refused.stderr) == (2, True)
    # of others they are none of ours
    assert "written to monthly-mosaic." in here.call("cloudless-mosaic", "status", env=environ).stderr
