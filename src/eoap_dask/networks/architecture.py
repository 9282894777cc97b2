"""Widths and depths of a BTC network, and the names and shapes of its tensors; without PyTorch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

POOLS = (1, 2, 3, 6)
"""Sides of the pooled maps of the decoder."""
LEVELS = 4
MULTIPLE = 32
"""What sides of pictures are multiples of: four pixels a patch, halved three times."""

SIDE = 256
"""Pixels of the pictures that published weights were trained on; smaller windows are enlarged to it."""
STEPS = 10000
"""Steps in which a probability is told."""

_BACKBONE = "enc.backbone"
_TABLE = re.compile(
    rf"{re.escape(_BACKBONE)}\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.self\.relative_position_bias_table"
)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """What weights don't say by their values."""

    dim: int
    """Features of the finest level; each further one has twice as many."""
    depths: tuple[int, ...]
    """Blocks of each level."""
    heads: tuple[int, ...]
    """Heads of attention of each level."""
    window: int
    """Side of the windows of attention, in patches."""
    decoder: int
    """Features of the decoder."""
    ratio: int = 4
    """Features inside a block's perceptron, against its own."""
    patch: int = 4
    """Side of a patch, in pixels."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Features of each level."""
        return tuple(self.dim << level for level in range(len(self.depths)))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Features inside the perceptrons of each level."""
        return tuple(self.ratio * dim for dim in self.dims)

    @property
    def parameters(self) -> int:
        """How many numbers its tensors have."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    @classmethod
    def of(cls, shapes: Shapes) -> Architecture:
        """Read it off the shapes of weights; LookupError, ValueError or ArithmeticError for those of something else."""
        dim, _, patch, _ = shapes[f"{_BACKBONE}.embeddings.patch_embeddings.projection.weight"]
        tables = {(int(found[1]), int(found[2])): name for name in shapes if (found := _TABLE.fullmatch(name))}
        depths = [0] * LEVELS
        heads = [0] * LEVELS
        for (level, _), name in tables.items():
            if level >= LEVELS:
                raise ValueError(f"There are more than {LEVELS} levels.")
            depths[level] += 1
            heads[level] = shapes[name][1]
        hidden = shapes[f"{_BACKBONE}.encoder.layers.0.blocks.0.intermediate.dense.weight"][0]
        side = math.isqrt(shapes[tables[0, 0]][0])
        form = cls(dim, tuple(depths), tuple(heads), (side + 1) // 2, shapes["dec.classifier.weight"][1], hidden // dim)
        if not all(depths) or min(form.dim, form.ratio, form.window, form.decoder, *heads) < 1:
            raise ValueError("A level is missing.")
        if patch != form.patch or any(dim % own for dim, own in zip(form.dims, heads, strict=True)):
            raise ValueError("Its widths don't fit.")
        return form

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names of all tensors, and their shapes."""
        dim, wide = self.dims[0], self.decoder
        found: dict[str, tuple[int, ...]] = {
            f"{_BACKBONE}.embeddings.patch_embeddings.projection.weight": (dim, 3, self.patch, self.patch),
            f"{_BACKBONE}.embeddings.patch_embeddings.projection.bias": (dim,),
            **_norm(f"{_BACKBONE}.embeddings.norm", dim),
        }
        for level, (dim, heads, hidden) in enumerate(zip(self.dims, self.heads, self.hidden, strict=True)):
            layer = f"{_BACKBONE}.encoder.layers.{level}"
            for number in range(self.depths[level]):
                found |= self._block(f"{layer}.blocks.{number}", dim, heads, hidden)
            if level + 1 < len(self.dims):
                found[f"{layer}.downsample.reduction.weight"] = (2 * dim, 4 * dim)
                found |= _norm(f"{layer}.downsample.norm", 4 * dim)
            found |= _norm(f"{_BACKBONE}.hidden_states_norms.stage{level + 1}", dim)
        *finer, coarsest = self.dims
        for number in range(len(POOLS)):
            found |= _conv(f"dec.psp_modules.{number}.1", coarsest, wide, 1)
        found |= _conv("dec.bottleneck", coarsest + len(POOLS) * wide, wide, 3)
        for number, dim in enumerate(finer):
            found |= _conv(f"dec.lateral_convs.{number}", dim, wide, 1)
            found |= _conv(f"dec.fpn_convs.{number}", wide, wide, 3)
        found |= _conv("dec.fpn_bottleneck", len(self.dims) * wide, wide, 3)
        return {**found, "dec.classifier.weight": (1, wide, 1, 1), "dec.classifier.bias": (1,)}

    def _block(self, name: str, dim: int, heads: int, hidden: int) -> dict[str, tuple[int, ...]]:
        own = f"{name}.attention.self"
        return {
            **_norm(f"{name}.layernorm_before", dim),
            f"{own}.relative_position_bias_table": ((2 * self.window - 1) ** 2, heads),
            f"{own}.relative_position_index": (self.window**2, self.window**2),
            **_linear(f"{own}.query", dim, dim),
            **_linear(f"{own}.key", dim, dim),
            **_linear(f"{own}.value", dim, dim),
            **_linear(f"{name}.attention.output.dense", dim, dim),
            **_norm(f"{name}.layernorm_after", dim),
            **_linear(f"{name}.intermediate.dense", dim, hidden),
            **_linear(f"{name}.output.dense", hidden, dim),
        }


def _norm(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _linear(name: str, one: int, other: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (other, one), f"{name}.bias": (other,)}


def _conv(name: str, one: int, other: int, side: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.conv.weight": (other, one, side, side),
        **_norm(f"{name}.batch_norm", other),
        f"{name}.batch_norm.running_mean": (other,),
        f"{name}.batch_norm.running_var": (other,),
        f"{name}.batch_norm.num_batches_tracked": (),
    }


BASE = Architecture(128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 512)
"""BTC-B, 120 million parameters."""
TINY = Architecture(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 512)
"""BTC-T, 59 million parameters."""
TOY = Architecture(8, (1, 2, 2, 1), (1, 2, 4, 8), 4, 16)
"""The same pattern, for tests and demonstrations."""
