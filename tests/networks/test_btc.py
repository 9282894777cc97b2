"""The BTC network: equal to implementations that aren't ours, strict about weights, the same window by window."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from eoap_dask.errors import ClusterError, WeightsError
from eoap_dask.kernels.windows import Lattice, Pair, starts, stretch_table
from eoap_dask.networks.architecture import BASE, STEPS, TINY, TOY, Architecture
from eoap_dask.networks.instructions import pin_instructions
from eoap_dask.networks.weights import find_weights, load, random_weights, verify

pin_instructions()  # as workers do
torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = pytest.mark.long

Array = np.ndarray[Any, Any]
WIDE = Architecture(16, (1, 2, 2, 2), (2, 2, 4, 4), 12, 24)
"""Has windows that are wider than its coarsest maps, as BTC-B has."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("toy") / "toy.safetensors", TOY)


def pictures(count: int, seed: int = 0, side: int = 256) -> list[Pair]:
    random = np.random.default_rng(seed)
    return [tuple(random.integers(0, 256, (2, 3, side, side), dtype=np.uint8)) for _ in range(count)]  # type: ignore[misc]


def logits(path: Path, before: Array, after: Array) -> Array:
    with torch.inference_mode():
        found: Array = load(path)(torch.from_numpy(before), torch.from_numpy(after)).numpy()
    return found


# --- proof


def drawn(path: Path, form: Architecture, seed: int) -> Path:
    """Write weights of which nothing is what it is by default, so that nothing of them can be left out unseen."""
    from safetensors.torch import load_file, save_file

    state = load_file(random_weights(path, form, seed))
    generator = torch.Generator().manual_seed(seed)
    for name, one in state.items():
        if name.endswith("running_var"):
            one.copy_(0.5 + torch.rand(one.shape, generator=generator))
        elif one.is_floating_point() and one.ndim == 1:
            one.add_(0.2 * torch.randn(one.shape, generator=generator))
    save_file(state, path)
    return path


OTHERS = Path(os.environ.get("EOAP_DASK_TEST_NETWORKS", "."))
"""Where packages lie that can't be installed beside ours."""


@pytest.mark.skipif("EOAP_DASK_TEST_NETWORKS" not in os.environ, reason="other implementations aren't here")
@pytest.mark.parametrize(
    ("kind", "form", "side"),
    [
        ("transformers", TOY, 256),
        ("transformers", WIDE, 256),
        ("transformers", WIDE, 224),
        ("transformers", BASE, 256),
        ("torchgeo", TINY, 256),
    ],
)
def test_others_find_the_same(kind: str, form: Architecture, side: int, tmp_path: Path) -> None:
    weights = drawn(tmp_path / "w.safetensors", form, seed=side)
    random = np.random.default_rng(side)
    shape = (1 if form == BASE else 2, 3, side, side)
    dates = {name: random.standard_normal(shape) for name in ("before", "after")}
    np.savez(tmp_path / "pictures.npz", **dates)  # type: ignore[arg-type]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.networks.independent", kind, weights, *("pictures.npz", "out.npy")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{OTHERS.resolve()}:{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "out.npy")[:, 0]
    with torch.inference_mode():  # in double precision, in which rounding hides nothing
        ours = load(weights).double()(*map(torch.from_numpy, dates.values())).numpy()
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    single = logits(weights, *(one.astype(np.float32) for one in dates.values()))
    np.testing.assert_allclose(single, theirs, atol=1e-4)


@pytest.mark.parametrize(("name", "form"), [("b", BASE), ("t", TINY)])
def test_published_forms_load_strictly_and_see_a_window(
    name: str, form: Architecture, tmp_path: Path, shared: Path
) -> None:
    from safetensors import safe_open

    from eoap_dask.networks.predict import Predictor

    path = random_weights(tmp_path / "model.safetensors", form)
    published = json.loads((shared / "btc" / f"btc_{name}_state_dict_shapes.json").read_text())
    with safe_open(path, "pt") as file:
        assert {key: file.get_slice(key).get_shape() for key in file.keys()} == published  # noqa: SIM118
    assert find_weights(str(path)).form == form
    (pair,) = pictures(1)
    (found,) = Predictor(path, "cpu", 1, 1)([pair])
    assert (found.shape, found.dtype) == ((256, 256), np.uint16)
    assert found.max() <= STEPS
    assert len(np.unique(found)) > 100
    # without a bias, nothing that differs is nothing at all
    (same,) = Predictor(path, "cpu", 1, 1)([(pair[0], pair[0])])
    assert np.unique(same).tolist() == [STEPS // 2]


def test_of_identical_dates_it_does_not_matter_what_they_show(tmp_path: Path) -> None:
    path = drawn(tmp_path / "w.safetensors", TOY, 5)
    one, other = np.random.default_rng(1).standard_normal((2, 1, 3, 64, 64)).astype(np.float32)
    np.testing.assert_array_equal(logits(path, one, one), logits(path, other, other))
    assert not np.array_equal(logits(path, one, other), logits(path, one, one))
    # and what came first matters: a difference has a sign
    assert not np.array_equal(logits(path, one, other), logits(path, other, one))


# --- how it is asked


def test_a_window_alone_is_the_same_in_company(toy: Path) -> None:
    from eoap_dask.networks.predict import Predictor

    pairs = pictures(5)
    alone = [Predictor(toy, "cpu", 1, 1)([pair])[0] for pair in pairs]
    for batch in (1, 4):
        together = Predictor(toy, "cpu", batch, 1)([*pairs, pairs[0]])
        for one, other in zip([*alone, alone[0]], together, strict=True):
            np.testing.assert_array_equal(one, other)
    # the module itself, in a batch: equal but for the order of sums
    dates = [(np.stack([pair[date] for pair in pairs]) / 255).astype(np.float32) for date in (0, 1)]
    whole = logits(toy, *dates)
    for number in range(len(pairs)):
        one = logits(toy, *(date[number : number + 1] for date in dates))
        np.testing.assert_allclose(whole[number], one[0], atol=1e-5)


def test_a_small_window_is_enlarged_as_the_published_weights_saw_it(toy: Path) -> None:
    from eoap_dask.networks.predict import Predictor

    (pair,) = pictures(1, side=64)
    (found,) = Predictor(toy, "cpu", 1, 1)([pair])
    # by hand: scaled as ImageNet's pictures are, enlarged four times between pixel centres, and averaged back
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    at = np.clip((np.arange(256) + 0.5) / 4 - 0.5, 0, 63)
    low = np.floor(at).astype(int)
    part, high = at - low, np.minimum(low + 1, 63)
    dates = []
    for picture in pair:
        scaled = (picture / 255 - mean[:, None, None]) / deviation[:, None, None]
        rows = scaled[:, low] * (1 - part)[:, None] + scaled[:, high] * part[:, None]
        dates.append((rows[:, :, low] * (1 - part) + rows[:, :, high] * part)[None].astype(np.float32))
    chance = 1 / (1 + np.exp(-logits(toy, *dates)[0].astype(float)))
    expected = chance.reshape(64, 4, 64, 4).mean(axis=(1, 3)) * STEPS
    np.testing.assert_allclose(found, expected, atol=0.51)


@pytest.mark.parametrize(("window", "side"), [(64, 500), (256, 1100)])
def test_no_seam_shows(tmp_path: Path, window: int, side: int) -> None:
    """Neighbours differ no more where a window ends than elsewhere, on ground that is alike everywhere."""
    from eoap_dask.networks.predict import Predictor

    lattice, table = Lattice(window, window // 4, 0.1), stretch_table(0, 0.3)
    ends = {end for at in starts(side, window, window // 4) for end in (at, at + window)} - {0, side}
    blended, plain = [], []
    for seed in range(5):  # networks, and ground
        ask = Predictor(drawn(tmp_path / f"{seed}.safetensors", TOY, seed), "cpu", 1, 1)
        random = np.random.default_rng(window + seed)
        smooth = [ndimage.gaussian_filter(random.standard_normal((3, side, side)), (0, 3, 3)) for _ in range(2)]
        margins = ((0, 0), (window, window), (window, window))
        dates = [np.pad(np.clip(1500 + 6000 * one, 1, 3000).astype(np.uint16), margins) for one in smooth]
        found, known = lattice.blend((dates[0], dates[1]), table, (-window, -window), (side, side), ask)
        assert known.all()
        blended.append(at_borders(found, ends))
        # what windows side by side show: the measure tells seams where there are some
        grey, rows = [table[one] for one in dates], range(window, side + 1, window)
        tiles = [[ask([(_cut(grey[0], y, x, window), _cut(grey[1], y, x, window))])[0] for x in rows] for y in rows]
        whole = np.block(tiles)
        plain.append(at_borders(whole, set(range(window, len(whole), window))))
    assert np.mean(blended) <= 1.1, blended
    assert np.mean(plain) > 1.5, plain


def at_borders(score: Array, ends: set[int]) -> float:
    """Return how much more neighbours differ across some rows and columns than across others."""
    across = np.mean([np.abs(np.diff(score.astype(float), axis=axis)).mean(axis=1 - axis) for axis in (0, 1)], axis=0)
    is_end = np.isin(np.arange(1, len(score)), list(ends))
    assert across.mean() > 1
    return float(across[is_end].mean() / across[~is_end].mean())


def _cut(grey: Array, row: int, col: int, side: int) -> Array:
    return grey[:, row : row + side, col : col + side]


# --- files


def test_weights_of_half_precision_and_checkpoints_are_the_same_network(toy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(toy)
    rounded = {name: one.half() if one.is_floating_point() else one for name, one in state.items()}
    save_file(rounded, tmp_path / "half.safetensors")
    back = {name: one.float() if one.is_floating_point() else one for name, one in rounded.items()}
    save_file(back, tmp_path / "back.safetensors")
    torch.save({"state_dict": back, "epoch": 3, "hparams": {"lr": 0.1}}, tmp_path / "plain.ckpt")
    torch.save({"state_dict": {f"model.{name}": one for name, one in back.items()}}, tmp_path / "named.ckpt")
    torch.save(back, tmp_path / "bare.pt")
    (one, other) = np.random.default_rng(1).standard_normal((2, 1, 3, 64, 64)).astype(np.float32)
    expected = logits(tmp_path / "back.safetensors", one, other)
    # the same to the last bit, wherever in its file a tensor begins
    for name in ("half.safetensors", "plain.ckpt", "named.ckpt", "bare.pt"):
        assert find_weights(str(tmp_path / name)).form == TOY
        np.testing.assert_array_equal(logits(tmp_path / name, one, other), expected)
    assert find_weights(str(toy)).is_random
    assert not find_weights(str(tmp_path / "half.safetensors")).is_random


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_runs_no_code(toy: Path, tmp_path: Path, is_zip: bool) -> None:
    from safetensors.torch import load_file

    sprung = tmp_path / "sprung"
    held = {"state_dict": load_file(toy), "callbacks": _Trap(sprung)}
    torch.save(held, tmp_path / "trap.ckpt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(WeightsError, match=r"holds more than tensors and plain values.*could run code"):
        find_weights(str(tmp_path / "trap.ckpt"))
    assert not sprung.exists()
    with (tmp_path / "plain.pt").open("wb") as file:
        pickle.dump(_Trap(sprung), file)
    with pytest.raises(WeightsError, match=r"trap|plain"):
        find_weights(str(tmp_path / "plain.pt"))
    assert not sprung.exists()


def test_damaged_checkpoints_are_refused(toy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    whole = tmp_path / "whole.ckpt"
    torch.save({"state_dict": load_file(toy)}, whole)
    content = whole.read_bytes()
    for size in (0, 4, 100, len(content) // 2, len(content) - 10):
        cut = tmp_path / f"cut-{size}.ckpt"
        cut.write_bytes(content[:size])
        with pytest.raises(WeightsError, match=rf"cut-{size}\.ckpt is a damaged checkpoint|isn't a file of safe"):
            find_weights(str(cut))
    for number, held in enumerate(({"state_dict": 3}, [1, 2], {"state_dict": {"x": 1}}, {})):
        torch.save(held, tmp_path / f"other-{number}.ckpt")
        with pytest.raises(WeightsError, match=r"holds no state_dict|of another network"):
            find_weights(str(tmp_path / f"other-{number}.ckpt"))


def test_numbers_that_are_none_and_other_positions_are_refused(toy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = load_file(toy)
    table = next(name for name in whole if name.endswith("relative_position_index"))
    cases: list[tuple[str, Any, str]] = [
        ("dec.classifier.bias", torch.tensor([float("nan")]), r"holds numbers in dec\.classifier\.bias that are none"),
        ("dec.classifier.bias", torch.tensor([1e300], dtype=torch.float64), "beyond single precision"),
        ("dec.classifier.bias", torch.tensor([1]), "as int64"),
        (table, torch.zeros_like(whole[table]), "other positions"),
        (table, whole[table].float(), "as float32"),
    ]
    for number, (name, tensor, sentence) in enumerate(cases):
        path = tmp_path / f"{number}.safetensors"
        save_file({**whole, name: tensor}, path)
        found = find_weights(str(path))
        with pytest.raises(WeightsError, match=sentence):
            verify(found)
        with pytest.raises(WeightsError, match=sentence):
            load(path)
    verify(find_weights(str(toy)))


def test_an_old_pytorch_reads_no_checkpoint(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    torch.save({"state_dict": load_file(toy)}, tmp_path / "plain.ckpt")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(WeightsError, match=r"PyTorch 2\.9\.1\+cpu can't read checkpoints safely.*2\.10 or later"):
        find_weights(str(tmp_path / "plain.ckpt"))


# --- the process


def test_the_callers_threads_are_left_alone(toy: Path) -> None:
    from eoap_dask.networks.predict import Predictor

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Predictor(toy, "cpu", 1, 1)(pictures(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_worker_keeps_to_instructions_that_others_have() -> None:
    program = "from eoap_dask.networks.predict import check_device; print(check_device('cpu', 0))"
    found = {}
    for name, more in (("plain", {}), ("chosen", {"ATEN_CPU_CAPABILITY": "default"})):
        environment = {key: value for key, value in os.environ.items() if key != "ATEN_CPU_CAPABILITY"}
        done = subprocess.run(
            [sys.executable, "-c", program], env={**environment, **more}, capture_output=True, text=True, check=True
        )
        found[name] = done.stdout.strip()
    if "avx2" in Path("/proc/cpuinfo").read_text():
        assert found["plain"].endswith(" AVX2")
    assert found["chosen"].endswith(" DEFAULT")


def test_cuda_memory_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from eoap_dask.networks import predict

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Pretended")
    assert predict.check_device("auto", 1 << 29) == "Pretended"
    with pytest.raises(ClusterError, match=r"CUDA device has .* free.*take about .*Try fewer"):
        predict.check_device("cuda", 2 << 30)


# --- the hub


@dataclass
class Hub:
    """A hub on loopback with the weights of one repository."""

    content: bytes
    fails: bool = False
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(is_head=True)

        def do_GET(self) -> None:
            self._answer(is_head=False)

        def _answer(self, *, is_head: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            if hub.fails or self.path != "/me/mine/resolve/main/model.safetensors":
                self.send_response(500 if hub.fails else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first = 0
            if asked := self.headers.get("Range"):
                first = int(asked.removeprefix("bytes=").partition("-")[0])
            part = hub.content[first:]
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", '"abc"')
            self.end_headers()
            if not is_head:
                hub.sent += len(part)
                self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(hub_url: str, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    away = {**os.environ, "HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-m", "eoap_dask", "btc", "check", "me/mine", *more],
        env=away,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_weights_are_fetched_from_a_hub_once(toy: Path, tmp_path: Path) -> None:
    with serving(Hub(toy.read_bytes())) as hub:
        done = ask(hub.url, tmp_path / "home")
        assert done.returncode == 0, done.stderr
        assert "random, what they find means nothing" in done.stdout
        assert hub.sent == len(hub.content)
        again = ask(hub.url, tmp_path / "home")
        assert again.returncode == 0, again.stderr
        assert hub.sent == len(hub.content)
        # what was fetched is there when the hub isn't
        hub.fails = True
        assert ask(hub.url, tmp_path / "home").returncode == 0
        missing = ask(hub.url, tmp_path / "empty")
    assert missing.returncode == 4
    assert "The weights me/mine can't be fetched from the hub" in missing.stderr
    assert "Traceback" not in missing.stderr
    gone = ask(hub.url, tmp_path / "empty")
    assert gone.returncode == 4
    assert "See that the hub can be reached" in gone.stderr


@pytest.mark.parametrize("name", ["a--b/c", "a/b..c", "-a/b"])
def test_names_that_no_hub_has(name: str) -> None:
    with pytest.raises(WeightsError, match=r"neither a file nor a name on the hub|There is no file"):
        find_weights(name)


def test_what_a_hub_has_of_something_else_is_refused(tmp_path: Path) -> None:
    with serving(Hub(b"<html>Please sign in</html>")) as hub:
        done = ask(hub.url, tmp_path / "home")
    assert done.returncode == 2
    assert "isn't a file of safetensors" in done.stderr
