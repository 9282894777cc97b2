"""Notebooks: a widget where there is one, text where not, and what plan, run and unit look like there."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eoap_dask import MosaicParams, RunOptions, cloudless_mosaic
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION
from eoap_dask.demo.server import DemoServer
from eoap_dask.run.events import Event, ignore
from eoap_dask.run.notebook import NotebookProgress, default_listener, in_notebook
from eoap_dask.run.plan import Plan
from eoap_dask.run.raster import SHOWN_PASSES, RasterWork

# ----------------------------------------------------------------------------------------------------
# Without a notebook


def test_a_library_is_silent_elsewhere() -> None:
    assert not in_notebook()
    assert default_listener() is ignore


def test_text_where_there_is_no_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    progress = NotebookProgress()
    progress(Event("todo", blocks_total=2, message="1 unit, 2 blocks to do"))
    progress(Event("unit-started", "one", 0, 2, "3 scenes"))
    progress(Event("block-done", "one", 1, 2))
    progress(Event("unit-done", "one", 2, 2))
    assert capsys.readouterr().out.splitlines() == [
        "todo: 1 unit, 2 blocks to do",
        "unit-started one: 3 scenes",
        "unit-done one",
    ]


def test_the_widget_says_how_far_it_is() -> None:
    progress = NotebookProgress()
    progress._units = {"<one>": "started"}
    text = progress.to_html(Event("block-done", "<one>", 1, 4))
    assert "value='0.2500'" in text
    assert "1 of 4 blocks" in text
    assert "&lt;one&gt; started" in text
    assert "value='1.0000'" in NotebookProgress().to_html(Event("end", message="complete"))


def test_a_shell_is_no_notebook() -> None:
    pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        assert sys.modules["IPython"].get_ipython() is shell
        assert not in_notebook()  # a terminal shows no HTML
    finally:
        InteractiveShell.clear_instance()


# ----------------------------------------------------------------------------------------------------
# In one

CELLS = [
    """
    from distributed import Client
    from eoap_dask import cloudless_mosaic
    client = Client(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    run = cloudless_mosaic(stac="{stac}", output_dir="{out}", resolution=400.0, bands=["red"])
    """,
    "run",
    "assert client.status == 'running' and len(client.scheduler_info()['workers']) == 1\nclient.shutdown()",
]


@pytest.mark.long
@pytest.mark.cluster
def test_a_notebook_shows_a_bar_and_works_on_the_active_client(calm: DemoServer, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.v4.new_notebook()
    for cell in CELLS:
        text = "\n".join(line.strip() for line in cell.strip().splitlines())
        text = text.replace("{stac}", calm.url).replace("{out}", str(tmp_path / "out"))
        notebook.cells.append(nbformat.v4.new_code_cell(text))
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [
        output["data"]["text/html"] for output in notebook.cells[0].outputs if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 1  # one output, renewed, and not a line for each event
    assert "3 of 3 blocks" in shown[0]
    assert "monthly-mosaic-2020-10 done" in shown[0]
    (result,) = notebook.cells[1].outputs
    assert "<b>cloudless-mosaic</b>" in result["data"]["text/html"]
    assert (tmp_path / "out" / "catalog.json").is_file()


# ----------------------------------------------------------------------------------------------------
# What things look like


@pytest.fixture(scope="module")
def plan(calm: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    out = tmp_path_factory.mktemp("plan") / "out"
    return APPLICATION.dry_run(MosaicParams(stac=calm.url, resolution=400.0), RunOptions(output_dir=out))


def test_a_plan(plan: Plan) -> None:
    text = plan._repr_html_()
    assert text.startswith("<pre>cloudless-mosaic: 3 units, 3 blocks")
    assert "writes    about" in text
    assert "monthly-mosaic-2020-11" in text


def test_a_unit_that_is_planned(plan: Plan) -> None:
    planned = plan.units[0]
    stack, text = planned.work.recipe.stack, planned._repr_html_()
    assert f"{planned.unit.key}: Cloud-free mosaic, October 2020, 2020-10-01 to 2020-10-31" in text
    assert text.count("<tr><td>") == len(stack.passes)
    assert all(scene.id in text for scene in stack.scenes)
    assert planned.digest in text
    assert re.search(r"EPSG:32610, \d+ × \d+ px", text)
    assert "left out" not in text
    scene = stack.scenes[0].id
    assert f"<th>left out</th><td>{scene}</td>" in planned.without(scene)._repr_html_()
    assert "&lt;b&gt;" in replace(planned, unit=replace(planned.unit, title="<b>"))._repr_html_()


def test_a_unit_of_many_passes_shows_some(plan: Plan) -> None:
    work = plan.units[0].work
    stack = replace(work.recipe.stack, passes=work.recipe.stack.passes * 20)
    text = RasterWork(replace(work.recipe, stack=stack))._repr_html_()
    assert f"… and {len(stack.passes) - SHOWN_PASSES} more" in text
    assert text.count("<tr><td>") == SHOWN_PASSES


@pytest.mark.cluster
def test_a_run(calm: DemoServer, tmp_path: Path) -> None:
    run = cloudless_mosaic(stac=calm.url, output_dir=tmp_path / "<out>", resolution=400.0, bands=("red",))
    text = run._repr_html_()
    assert "&lt;out&gt;/catalog.json" in text
    assert text.count("<li>") == 3
    assert "Cloud-free mosaic, October 2020" in text
