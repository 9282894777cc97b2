"""Weights of BTC networks: found in a file or on a hub, checked before they are used, and loaded strictly.

What checks a file of safetensors doesn't import PyTorch.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eoap_dask.errors import DownloadError, WeightsError
from eoap_dask.networks.architecture import Architecture, Shapes
from eoap_dask.redact import redact
from eoap_dask.text import few, plural, show_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from eoap_dask.networks.btc import Btc

SAFE_TORCH = (2, 10)
"""Before that, a checkpoint can run code though only tensors are asked for."""
HUB_FILE = "model.safetensors"
"""The one file of a hub's repository that is needed."""
RANDOM = "eoap-dask:random"
"""Key of the metadata of weights that nobody has trained."""
INSTALL = "Try pip install 'eoap-dask[btc]'; docs/btc.md says how to get PyTorch for processors alone."

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
CHECKPOINTS = (".ckpt", ".pt", ".pth", ".bin")
_FILES = (".safetensors", *CHECKPOINTS)
_LONGEST_HEADER = 64 << 20


@dataclass(frozen=True)
class Weights:
    """Weights that were looked at, and can be used."""

    path: Path
    """File of safetensors or checkpoint."""
    source: str
    """What they were asked for by: a hub's name, or the file's own."""
    form: Architecture
    is_random: bool = False
    """Whether nobody has trained them."""
    is_checkpoint: bool = False


def is_hub_name(text: str) -> bool:
    """Tell whether a text is a name on a hub, and not the path of a file."""
    return bool(_HUB_NAME.fullmatch(text)) and not text.endswith(_FILES) and not Path(text).exists()


def lacking() -> list[str]:
    """Return the packages that networks need and that aren't installed here."""
    return [name for name in ("torch", "safetensors") if find_spec(name) is None]


def find_weights(text: str) -> Weights:
    """Return the weights that a text names, downloaded where it is a hub's name; nothing is loaded.

    Raises
    ------
    WeightsError
        for a file that isn't there, is cut short, holds code, or is of another network
    DownloadError
        when the hub can't be reached, or hasn't got them
    """
    path = _download(text) if is_hub_name(text) else Path(text).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"The weights {text} aren't a file." if path.exists() else f"There is no file of weights {text}.",
            "Expected a file of safetensors, a checkpoint of Lightning, or the name of a repository on the hub.",
            "Try blaz-r/BTC-B_oscd96 where the hub can be reached.",
        )
    shapes: Shapes
    about: Mapping[str, str]
    is_checkpoint = False
    try:
        is_checkpoint = _is_checkpoint(path)
        if is_checkpoint:
            shapes, about = {name: tuple(one.shape) for name, one in _read_checkpoint(path).items()}, {}
        else:
            shapes, about = _read_header(path)
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}.") from error
    return Weights(path, _source(text, path), check_shapes(shapes, path), RANDOM in about, is_checkpoint)


def _source(text: str, path: Path) -> str:
    """Return what is told of where weights are from: never a path of this machine."""
    if not is_hub_name(text):
        return path.name
    folder = path.parent  # …/snapshots/COMMIT in the hub's cache
    return f"{text}@{folder.name}" if folder.parent.name == "snapshots" else text


def check_shapes(shapes: Shapes, path: Path) -> Architecture:
    """Return what weights of some names and shapes are of, or raise `WeightsError`.

    One vector beside them, as long as the finest level has features, is taken: published weights of BTC-T have it.
    """
    try:
        form = Architecture.of(shapes)
    except (KeyError, ValueError, IndexError, ArithmeticError):
        raise WeightsError(
            f"{path} holds weights of another network than BTC.",
            f"Its first tensors are {_told(shapes) or 'none'}; expected enc.backbone… and dec….",
            "Try those of blaz-r/BTC-B_oscd96.",
        ) from None
    wanted = form.shapes()
    further = sorted(set(shapes) - set(wanted) - set(spare(shapes, form)))
    missing = sorted(set(wanted) - set(shapes))
    other = sorted(name for name in set(wanted) & set(shapes) if wanted[name] != tuple(shapes[name]))
    faults = [
        *([f"without {_told(missing)}"] if missing else []),
        *([f"with {_told(further)} beside them"] if further else []),
        *([f"with {other[0]} of {_by(shapes[other[0]])} instead of {_by(wanted[other[0]])}"] if other else []),
    ]
    if faults:
        raise WeightsError(
            f"{path} holds weights of BTC {'; '.join(faults)}.",
            f"Expected {plural(len(wanted), 'tensor')} with the names of the published ones.",
            "Try the file as it was published.",
        )
    return form


def spare(shapes: Shapes, form: Architecture) -> list[str]:
    """Return the names of what may be there beside the network's own: one vector, or nothing."""
    found = [name for name in shapes if name not in form.shapes() and math.prod(shapes[name]) == form.dim]
    return found if len(found) == 1 else []


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _told(names: Iterable[str]) -> str:
    """Return some names from a file for people: what would steer a terminal is left out."""
    return few(("".join(letter for letter in name if letter.isprintable()) for name in sorted(names)), 3)


def _is_checkpoint(path: Path) -> bool:
    """Tell a checkpoint of PyTorch, which is a zip, or a pickle of old, from safetensors."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] != b"{" and (zipfile.is_zipfile(path) or start[:1] == b"\x80" or path.suffix in CHECKPOINTS)


def _read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], Mapping[str, str]]:
    """Return names and shapes of a file of safetensors, and what is said about it; WeightsError for a damaged one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        content = file.read(length) if 2 <= length <= min(size - 8, _LONGEST_HEADER) else b""
    try:
        header = json.loads(content)
        about = header.pop("__metadata__", {})
        shapes = {str(name): tuple(map(_whole_number, one["shape"])) for name, one in header.items()}
        end = 8 + length + _check_layout(header, shapes)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise WeightsError(
            f"{path} isn't a file of safetensors, nor a checkpoint.",
            f"It has {show_bytes(size)}, and no header that can be read.",
            "Fetch it again: it may be cut short, or a page that a server sent instead.",
        ) from None
    if end != size:
        raise WeightsError(
            f"{path} is {'cut short' if size < end else 'too long'}: it has {size} bytes.",
            f"Its header tells of {end}.",
            "Fetch it again.",
        )
    return shapes, about if isinstance(about, dict) else {}


_WHOLE = ("relative_position_index", "num_batches_tracked")
"""Ends of the names of tensors of whole numbers."""
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4}
"""Of a number of each type that is taken."""


def _whole_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(value)
    return value


def _check_layout(header: Mapping[str, Mapping[str, Any]], shapes: Shapes) -> int:
    """Return where tensors end: each is as long as it must be, and they follow one another; ValueError otherwise."""
    if not header:
        raise ValueError("empty")
    end = 0
    for name, one in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = map(_whole_number, one["data_offsets"])
        if first != end or last - first != math.prod(shapes[name]) * _BYTES[one["dtype"]]:
            raise ValueError(name)
        end = last
    return end


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the tensors of a checkpoint of PyTorch or Lightning, which aren't read before they are used.

    Nothing but tensors and plain values is loaded: no code of the file runs.
    """
    if missing := lacking():
        raise WeightsError(f"A checkpoint needs {' and '.join(missing)}, which isn't installed here.", "", INSTALL)
    import pickle

    import torch

    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_TORCH:
        raise WeightsError(
            f"PyTorch {torch.__version__} can't read checkpoints safely: a file could run code.",
            f"Expected {'.'.join(map(str, SAFE_TORCH))} or later (CVE-2025-32434, CVE-2026-24747).",
            "Update PyTorch, or save the state_dict as safetensors.",
        )
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors and plain values: {_first_line(error)}.",
            "A checkpoint of that kind could run code, and isn't loaded.",
            "Save its state_dict as safetensors where you trust it.",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is a damaged checkpoint: {_first_line(error)}.", "It may be cut short.", "Fetch it again."
        ) from error
    state = held.get("state_dict", held) if isinstance(held, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(one, torch.Tensor) and one.layout is torch.strided and not one.is_meta
        for name, one in state.items()
    ):
        raise WeightsError(f"{path} holds no state_dict of tensors.", "", "Try a checkpoint of Lightning.")
    # a training module may hold the network under a name of its own
    prefix = next((name.partition("enc.backbone.")[0] for name in state if "enc.backbone." in name), "")
    return {str(name).removeprefix(prefix): one for name, one in state.items()}


def _first_line(error: Exception) -> str:
    text = redact(error).strip().splitlines() or [type(error).__name__]
    return text[0].partition(". ")[0].rstrip(".:")


def _download(name: str) -> Path:
    """Return where the weights of a hub's repository lie on this disk; they are fetched once."""
    if find_spec("huggingface_hub") is None:
        raise WeightsError(f"{name} is a name on the hub, and huggingface_hub isn't installed here.", "", INSTALL)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import disable_progress_bars, logging, validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise WeightsError(
            f"{name} is neither a file nor a name on the hub.", "", "Try blaz-r/BTC-B_oscd96, or the path of a file."
        ) from None
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bars()
    try:
        return Path(hf_hub_download(name, HUB_FILE))
    except Exception as error:  # whatever its HTTP library raises
        raise DownloadError(
            f"The weights {name} can't be fetched from the hub: {_first_line(error)}.",
            f"Expected {HUB_FILE} of a repository there.",
            "See that the hub can be reached (HF_ENDPOINT, HTTPS_PROXY), or give a local file.",
        ) from error


def load(path: Path) -> Btc:
    """Return the network of some weights, on the processor, ready to be asked; raises `WeightsError`."""
    import torch

    from eoap_dask.networks.btc import Btc

    tensors = dict(_tensors(path))
    form = check_shapes({name: tuple(one.shape) for name, one in tensors.items()}, path)
    with torch.device("meta"):
        network = Btc(form)
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def verify(weights: Weights) -> None:
    """Look at all numbers of weights, one tensor after the other; raises `WeightsError` as `load` does."""
    for _ in _tensors(weights.path):
        pass


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield names and tensors, each checked and in memory of its own."""
    from eoap_dask.networks.instructions import pin_instructions

    pin_instructions()  # this may be the first to import PyTorch here
    from eoap_dask.networks.btc import relative_positions

    before = _state_of(path)
    held = _read_checkpoint(path) if _is_checkpoint(path) else None
    shapes = _read_header(path)[0] if held is None else {name: tuple(one.shape) for name, one in held.items()}
    form = check_shapes(shapes, path)
    positions = relative_positions(form.window)
    for name in sorted(set(shapes) - set(spare(shapes, form))):
        one = _aligned(_read_tensor(path, name) if held is None else held[name])
        _check_tensor(one, positions, name, path)
        yield name, one
    if _state_of(path) != before:
        raise WeightsError(f"{path} was replaced while it was read.", "", "Try again when it is whole.")


def _check_tensor(one: Tensor, positions: Tensor, name: str, path: Path) -> None:
    """Raise `WeightsError` for numbers that are none, or positions in windows that aren't those of the network."""
    import torch

    if one.is_complex() or one.is_floating_point() == name.endswith(_WHOLE):
        raise WeightsError(f"{path} holds {name} as {str(one.dtype).removeprefix('torch.')}.", "", "Export it anew.")
    if one.is_floating_point() and not bool(torch.isfinite(one).all()):
        raise WeightsError(
            f"{path} holds numbers in {name} that are none: NaN, or beyond single precision.",
            "The training has diverged, or the file is damaged.",
            "Try an earlier state of the training.",
        )
    if name.endswith("relative_position_index") and not torch.equal(one.long(), positions):
        raise WeightsError(f"{path} holds other positions in {name} than its windows have.", "", "Export it anew.")


def _state_of(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_tensor(path: Path, name: str) -> Tensor:
    """Return a tensor of a file of safetensors; the file is mapped for no longer than that, or all of it counts."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        found: Tensor = file.get_tensor(name)
    return found


def _aligned(one: Tensor) -> Tensor:
    """Return a tensor in memory of its own, in single precision.

    Where it lies in a mapped file, it begins anywhere, and sums of products then differ in their last bits.
    """
    import torch

    return one.to(torch.float32 if one.is_floating_point() else one.dtype, copy=True)


def random_weights(path: Path, form: Architecture, seed: int = 0) -> Path:
    """Write weights that nobody has trained, as safetensors: what they find means nothing.

    They are drawn so that what is different between dates comes through: tests and demonstrations need no more.
    """
    import torch
    from safetensors.torch import save_file

    from eoap_dask.networks.btc import Btc

    generator = torch.Generator().manual_seed(seed)
    network = Btc(form)
    state = network.state_dict()
    for name, one in state.items():
        if name.endswith("relative_position_index"):
            continue
        if name.endswith(("running_var", "norm.weight")) or re.search(r"(layernorm_\w+|stage\d)\.weight$", name):
            one.fill_(1.0)
        elif one.is_floating_point() and one.ndim > 1:
            fan = math.prod(one.shape[1:]) if not name.endswith("table") else 1
            one.copy_(torch.randn(one.shape, generator=generator) * (1.4 / fan**0.5))
        else:
            one.zero_()
    with _whole(path) as draft:
        save_file(state, draft, {RANDOM: str(seed), "format": "pt"})
        draft.chmod(0o644)  # as other files have it; those of safetensors are their owner's alone
    return path


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield the path of a draft that becomes the file in the end, or nothing."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        draft = Path(folder) / path.name
        yield draft
        draft.replace(path)
