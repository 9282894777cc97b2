"""Files of weights: which are taken, and what is said of others; PyTorch isn't needed for that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eoap_dask.errors import WeightsError
from eoap_dask.networks.architecture import BASE, TINY, TOY, Architecture
from eoap_dask.networks.weights import check_shapes, find_weights, is_hub_name


@pytest.mark.parametrize(("name", "form"), [("b", BASE), ("t", TINY)])
def test_names_and_shapes_are_those_of_the_published_weights(name: str, form: Architecture, shared: Path) -> None:
    text = (shared / "btc" / f"btc_{name}_state_dict_shapes.json").read_text()
    published = {key: tuple(shape) for key, shape in json.loads(text).items()}
    assert form.shapes() == published
    assert Architecture.of(published) == form
    assert check_shapes(published, Path("model.safetensors")) == form


@pytest.mark.parametrize("form", [BASE, TINY, TOY, Architecture(24, (1, 3, 1, 4), (2, 3, 4, 6), 5, 20, 2)])
def test_widths_and_depths_are_read_off_shapes(form: Architecture) -> None:
    assert Architecture.of(form.shapes()) == form


def header(shapes: dict[str, tuple[int, ...]], **about: str) -> dict[str, Any]:
    found: dict[str, Any] = {"__metadata__": about} if about else {}
    offset = 0
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        found[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    return found


def write(path: Path, shapes: dict[str, tuple[int, ...]], cut: int = 0, **about: str) -> Path:
    content = header(shapes, **about)
    text = json.dumps(content).encode()
    size = max(one["data_offsets"][1] for name, one in content.items() if name != "__metadata__")
    whole = len(text).to_bytes(8, "little") + text + bytes(size)
    path.write_bytes(whole[: len(whole) - cut])
    return path


def test_a_file_of_safetensors_is_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.safetensors", TOY.shapes())
    found = find_weights(str(path))
    assert (found.path, found.source, found.form, found.is_random) == (path, "mine.safetensors", TOY, False)


def test_one_further_vector_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.safetensors", {**TINY.shapes(), "enc.something": (96,)})
    assert find_weights(str(path)).form == TINY


_GONE = "dec.lateral_convs.1.conv.weight"


def without(name: str) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in TOY.shapes().items() if key != name}


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (without(_GONE), rf"holds weights of BTC without {_GONE}\. Expected 247 tensors"),
        ({**TOY.shapes(), "dec.more": (5,)}, r"with dec\.more beside them"),
        ({**TOY.shapes(), "one": (8,), "two": (8,)}, "with one, two beside them"),
        ({**TOY.shapes(), _GONE: (16, 17, 1, 1)}, rf"with {_GONE} of 16×17×1×1 instead of 16×16×1×1"),
        ({"conv1.weight": (64, 3, 7, 7)}, r"weights of another network than BTC\. Its first tensors are conv1\.weight"),
    ],
)
def test_other_tensors_are_named(shapes: dict[str, tuple[int, ...]], sentence: str, tmp_path: Path) -> None:
    sentence = sentence.replace("247", str(len(TOY.shapes())))
    with pytest.raises(WeightsError, match=sentence):
        find_weights(str(write(tmp_path / "mine.safetensors", shapes)))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is cut short: it has \d+ bytes. Its header tells of \d+"):
        find_weights(str(write(tmp_path / "cut.safetensors", TOY.shapes(), cut=1)))
    page = tmp_path / "page.safetensors"
    for content in (b"<html>Not here</html>", b"", b"\x07\0\0\0\0\0\0\0{}", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}"):
        page.write_bytes(content)
        with pytest.raises(WeightsError, match="isn't a file of safetensors, nor a checkpoint"):
            find_weights(str(page))
    with pytest.raises(WeightsError, match="There is no file of weights"):
        find_weights(str(tmp_path / "none.safetensors"))
    with pytest.raises(WeightsError, match="aren't a file"):
        find_weights(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' + "[" * 100_000,
        '{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}',
        '{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
        '"b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        '{"a": 3}',
        "[]",
        "{}",
    ],
)
def test_headers_that_lie_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(8))
    with pytest.raises(WeightsError, match=r"isn't a file of safetensors"):
        find_weights(str(path))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("enc.backbone.embeddings.patch_embeddings.projection.weight", (0, 3, 4, 4)),
        ("enc.backbone.encoder.layers.0.blocks.0.attention.self.relative_position_bias_table", (49, 0)),
        ("dec.classifier.weight", (1, 0, 1, 1)),
    ],
)
def test_empty_tensors_are_of_no_network(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"of another network|instead of"):
        find_weights(str(write(tmp_path / "mine.safetensors", {**TOY.shapes(), name: shape})))


def test_names_that_steer_a_terminal_are_told_without_that(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(str(write(tmp_path / "mine.safetensors", {"\x1b]0;pwn\x07": (3,)})))
    assert "\x1b" not in str(caught.value)
    assert "]0;pwn" in str(caught.value)


@pytest.mark.parametrize("text", ["blaz-r/BTC-B_oscd96", "me/mine", "a.b/c.d"])
def test_names_on_a_hub(text: str) -> None:
    assert is_hub_name(text)


@pytest.mark.parametrize(
    "text", ["model.safetensors", "folder/model.safetensors", "x/y.ckpt", "/a/b", "a/b/c", "../x/y"]
)
def test_names_of_files(text: str) -> None:
    assert not is_hub_name(text)
