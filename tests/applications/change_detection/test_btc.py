"""BTC on the demo's land, by random weights: what they find means nothing, and must be the same however it is made."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rioxarray
from distributed import Client
from tests.support.changes import image_path, large_patches, mask_path, read
from tests.support.command_line import Shell

import eoap_dask as eo
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.changes import ChangesArchive, make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.files import sha256_of
from eoap_dask.kernels.windows import ramp, starts
from eoap_dask.networks.architecture import BASE, TOY
from eoap_dask.networks.instructions import pin_instructions
from eoap_dask.networks.weights import random_weights

pin_instructions()  # as workers do
torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = [pytest.mark.cluster, pytest.mark.long]

Array = np.ndarray[Any, Any]
WINDOW = 64
HOW = {"method": "btc", "window": WINDOW, "threshold": 0.5}


@dataclass(frozen=True)
class Given:
    """The demo's land, served, and weights."""

    land: ChangesArchive
    url: str
    weights: Path

    def find(self, out: Path, client: Client | None = None, **how: Any) -> eo.Run:
        """Find change of one cell, unless told otherwise."""
        place = {"grid": self.land.cells, "stac": self.url, "output_dir": out, "client": client}
        own = {"weights": self.weights, "grid_ids": "463", "years": "2022-2023"}
        return eo.change_detection(**{**place, **own, **HOW, **how})

    def command(self, out: str, *more: object) -> list[str]:
        """Return the same as a command."""
        return [
            *("change-detection", "--method", "btc", "--weights", str(self.weights), "--window", str(WINDOW)),
            *("--threshold", "0.5", "--grid", str(self.land.cells), "--stac", self.url, "--output-dir", out),
            *map(str, more),
        ]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Given]:
    folder = tmp_path_factory.mktemp("btc")
    land = make_changes(folder / "archive", rows=1, cols=3, cell_px=200, clouds=0.75)
    weights = random_weights(folder / "model.safetensors", TOY, seed=4)  # as published ones are called
    with ServerProcess(land.root) as server:
        yield Given(land, server.url, weights)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as running:
        yield running


@pytest.fixture(scope="module")
def run(given: Given, client: Client, tmp_path_factory: pytest.TempPathFactory) -> eo.Run:
    return given.find(tmp_path_factory.mktemp("run") / "out", client)


def files_of(out: Path) -> dict[str, str]:
    kinds = (".tif", ".tiff", ".png", ".pgw")
    return {str(path.relative_to(out)): sha256_of(path) for path in out.rglob("*") if path.suffix in kinds}


def score_of(out: Path) -> Array:
    found: Array = read(mask_path(out, "463", 2023, "_score.tif"))[0]
    return found


def test_scores_are_those_of_windows_asked_one_by_one(given: Given, run: eo.Run) -> None:
    from eoap_dask.networks.predict import Predictor

    before, after = (read(image_path(run.output, "463", year)) for year in (2022, 2023))
    assert before.shape == (3, 200, 200)
    seen = (before > 0).all(0) & (after > 0).all(0)
    assert 0.5 < seen.mean() < 1
    ask = Predictor(given.weights, "cpu", 1, 1)
    grey = [np.floor(np.clip(one / 3000 * 255, 0, 255) + 0.5).astype(np.uint8) for one in (before, after)]
    is_there = [(one > 0).all(0) for one in (before, after)]
    for band in range(3):
        other = np.where(is_there[0], grey[0][band], np.where(is_there[1], grey[1][band], 0))
        for one in grey:
            one[band] = np.where(seen, one[band], other)
    total, weight = np.zeros((200, 200), np.int64), np.zeros((200, 200), np.int64)
    own = np.multiply.outer(ramp(WINDOW, WINDOW // 4), ramp(WINDOW, WINDOW // 4))
    for row in starts(200, WINDOW, WINDOW // 4):
        for col in starts(200, WINDOW, WINDOW // 4):
            part = slice(row, row + WINDOW), slice(col, col + WINDOW)
            if seen[part].mean() >= 0.1:
                (steps,) = ask([(grey[0][:, *part], grey[1][:, *part])])
                total[part] += own * steps
                weight[part] += own
    expected = np.floor(total / np.maximum(weight, 1) + 0.5)
    stored = np.where(seen & (weight > 0), np.maximum(expected, 1), 0)  # 0 is no data
    np.testing.assert_array_equal(score_of(run.output), stored)
    mask = read(mask_path(run.output, "463", 2023))[0]
    np.testing.assert_array_equal(mask == 0, stored == 0)
    np.testing.assert_array_equal(mask == 2, large_patches(stored > 5000, 6))
    assert 0.01 < (mask == 2).sum() / (mask > 0).sum() < 0.99


def test_the_same_bytes_by_any_blocks_and_workers(given: Given, client: Client, tmp_path: Path) -> None:
    land = make_changes(tmp_path / "archive", rows=1, cols=1, cell_px=600, clouds=0.2)
    products = []
    with ServerProcess(land.root) as server:
        place = {"grid": land.cells, "stac": server.url}
        products.append(given.find(tmp_path / "one", client, **place))
        for name, size, how in (
            ("blocks", Size(2, 1, 2 << 30), {"block": 512}),
            ("batches", Size(1, 3, 2 << 30), {"block": 512, "batch_size": 7, "sink": "workers"}),
        ):
            with local_client(size) as other:
                products.append(given.find(tmp_path / name, other, **place, **how))
    files = [files_of(one.output) for one in products]
    assert files[0] == files[1] == files[2]
    assert score_of(products[0].output).shape == (600, 600)


def test_people_get_the_same_pixels(given: Given, run: eo.Run) -> None:
    before, after = (
        rioxarray.open_rasterio(image_path(run.output, "463", year), chunks={"y": 70, "x": 90})
        .assign_coords(band=["red", "green", "blue"])  # type: ignore[union-attr]
        .drop_attrs()
        .to_dataset("band")
        for year in (2022, 2023)
    )
    found = eo.btc(before, after, weights=given.weights, window=WINDOW, threshold=0.5)
    score = score_of(run.output)
    expected = np.where(score == 0, np.nan, score * np.float32(0.0001)).astype(np.float32)
    np.testing.assert_array_equal(found.score.compute(), expected)
    np.testing.assert_array_equal(found.change.compute(), read(mask_path(run.output, "463", 2023))[0])


def test_what_was_asked_is_told_and_that_it_means_nothing(given: Given, run: eo.Run) -> None:
    item = json.loads(mask_path(run.output, "463", 2023, ".json").read_text())
    told = item["properties"]["eoap:change_statistics"]
    assert told["weights"] == {"source": "model.safetensors", "sha256": sha256_of(given.weights), "random": True}
    assert (told["threshold"], told["window"], told["stretch"], told["device"]) == (0.5, WINDOW, [0.0, 0.3], "cpu")
    lineage = item["properties"]["processing:lineage"]
    for text in ("The weights are random: what they find means nothing", "10.1109/TGRS.2025.3585342", "0.5 was publ"):
        assert text in lineage, lineage
    assert str(given.weights.parent) not in json.dumps(item)
    collection = json.loads((run.output / "collection.json").read_text())
    assert "with random weights: this means nothing" in collection["description"]
    assert told["pytorch"] == torch.__version__
    (row,) = csv.DictReader((run.output / "changes.csv").open())
    assert float(row["threshold"]) == 0.5


def test_other_weights_other_answers(given: Given, run: eo.Run, client: Client, tmp_path: Path) -> None:
    """Weights decide pixels: another file isn't taken for the one before, the same one elsewhere is."""
    out = tmp_path / "out"
    shutil.copytree(run.output, out)
    moved = tmp_path / "moved.safetensors"
    shutil.copy(given.weights, moved)
    kinds: list[tuple[str, str]] = []
    given.find(out, client, weights=moved, listener=lambda one: kinds.append((one.kind, one.unit)))
    assert not [one for one in kinds if one[0] == "unit-done"]
    other = random_weights(tmp_path / "other.safetensors", TOY, seed=5)
    with pytest.raises(eo.EoapError, match="other parameters: weights differs"):
        given.find(out, client, weights=other)
    found = given.find(tmp_path / "new", client, weights=other)
    assert (score_of(found.output) != score_of(run.output)).mean() > 0.5
    assert (
        files_of(found.output)["images/2023/sentinel2_grid_463_2023_08.tiff"]
        == (files_of(run.output)["images/2023/sentinel2_grid_463_2023_08.tiff"])
    )


def test_a_run_that_was_killed_goes_on(given: Given, shell: Shell, tmp_path: Path, client: Client) -> None:
    whole = given.find(tmp_path / "whole", client, grid_ids="", years="2022-2024")
    arguments = given.command("out", "--years", "2022-2024")
    process = subprocess.Popen(
        [sys.executable, "-m", "eoap_dask", *arguments], cwd=shell.cwd, stderr=subprocess.PIPE, start_new_session=True
    )
    partial = shell.cwd / "out.partial"
    until = time.monotonic() + 120
    while not list(partial.glob("masks/*/*.json")) and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = {path: sha256_of(path) for path in partial.glob("*/*/*.tif*")}
    assert finished
    assert not (shell.cwd / "out").exists()
    done = shell.run(*arguments, timeout=170)
    assert done.returncode == 0, done.stderr
    assert files_of(shell.cwd / "out") == files_of(whole.output)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--window", 100), 2, "multiple of 32"),
        (("--threshold", 1.5), 2, "--threshold"),
        (("--stretch", "0.3,0.1"), 2, "--stretch"),
        (("--stretch", "x"), 2, "--stretch"),
        (("--device", "tpu"), 2, "--device"),
        (("--batch-size", 0), 2, "--batch-size"),
        (("--torch-threads", 0), 2, "--torch-threads"),
        (("--bands", "red", "--bands", "green"), 2, "blue"),
        (("--weights", "none.safetensors"), 2, "none.safetensors"),
        (("--weights", "cut.safetensors"), 2, "cut short"),
        (("--weights", "page.safetensors"), 2, "isn't a file of safetensors"),
    ],
)
def test_wrong_input_is_one_sentence(
    given: Given, shell: Shell, options: tuple[object, ...], code: int, sentence: str
) -> None:
    (shell.cwd / "cut.safetensors").write_bytes(given.weights.read_bytes()[:-5])
    (shell.cwd / "page.safetensors").write_text("<html></html>")
    done = shell.run(*given.command("out"), *options)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(shell.cwd.glob("out*"))


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is CUDA")
def test_cuda_that_is_not_there(given: Given, shell: Shell) -> None:
    done = shell.run(*given.command("out", "--device", "cuda"))
    assert done.returncode == 5, done.stderr
    assert "no CUDA device" in done.stderr
    assert "Try the device cpu" in done.stderr
    assert not (shell.cwd / "out").exists()


def test_too_little_memory_is_said_before_work(given: Given, shell: Shell) -> None:
    large = random_weights(shell.cwd / "b.safetensors", BASE)
    limit = ("--cluster", "local", "--workers", 1, "--worker-memory", "700MB")
    done = shell.run(*given.command("out", "--weights", large, *limit))
    assert done.returncode == 5, done.stderr
    assert "would need about" in done.stderr
    assert not list(shell.cwd.glob("out*"))
    planned = shell.run(*given.command("out", "--weights", large, *limit), "--dry-run")
    assert planned.returncode == 0
    assert "A run would be refused: A worker has" in planned.stderr
    done = shell.run(*given.command("out", "--grid-ids", "463", "--years", "2022-2023", *limit), timeout=170)
    assert done.returncode == 0, done.stderr


def test_weights_that_are_no_numbers_are_refused_before_work(given: Given, shell: Shell) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(given.weights)
    state["dec.classifier.bias"][:] = float("nan")
    save_file(state, shell.cwd / "diverged.safetensors")
    done = shell.run(*given.command("out", "--weights", "diverged.safetensors"))
    assert done.returncode == 2, done.stderr
    assert "holds numbers in dec.classifier.bias that are none" in done.stderr
    assert not list(shell.cwd.glob("out*"))


def test_thresholds_share_one_network(given: Given, run: eo.Run) -> None:
    from eoap_dask.render.tools import TOOLS

    TOOLS.clear()
    before, after = (
        rioxarray.open_rasterio(image_path(run.output, "463", year))
        .assign_coords(band=["red", "green", "blue"])  # type: ignore[union-attr]
        .drop_attrs()
        .to_dataset("band")
        for year in (2022, 2023)
    )
    masks = [
        int((eo.btc(before, after, weights=given.weights, window=WINDOW, threshold=limit).change == 2).sum())
        for limit in (0.3, 0.5, 0.7)
    ]
    assert masks[0] > masks[1] > masks[2]
    assert len(TOOLS._made) == 1
    TOOLS.clear()


def test_options_of_another_method_are_told_to_do_nothing(given: Given, shell: Shell) -> None:
    done = shell.run(*given.command("out", "--method", "cva", "--dry-run"))
    assert done.returncode == 0, done.stderr
    assert "--weights, --threshold, --window does nothing with --method cva" in done.stderr
