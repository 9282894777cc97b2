"""BTC, a network that finds change between two pictures: a Swin encoder, differences per level, an UPerNet decoder.

Its parameters have the names of the published weights, so that these load strictly. The architecture is that of Rolih
et al., Be The Change (IEEE TGRS 63, 2025, doi:10.1109/TGRS.2025.3585342); its parts are of Liu et al., Swin Transformer
(ICCV 2021), and Xiao et al., Unified Perceptual Parsing (ECCV 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from eoap_dask.networks.architecture import POOLS, Architecture

_MASKED = -100.0
"""Added to the attention of pixels that a shift brought next to each other."""


class _PatchEmbeddings(nn.Module):
    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, dim, patch, patch)


class _Embeddings(nn.Module):
    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.patch_embeddings = _PatchEmbeddings(dim, patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, y, x, dim) of (n, 3, y, x)."""
        projection = self.patch_embeddings.projection
        patch = projection.kernel_size[0]
        bottom, right = (-side % patch for side in images.shape[-2:])
        found: Tensor = self.norm(projection(fn.pad(images, (0, right, 0, bottom))).permute(0, 2, 3, 1))
        return found


class _SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_positions(window))

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows: (n · windows, tokens, dim); the mask is (windows, tokens, tokens)."""
        count, length, dim = tokens.shape
        shape = count, length, self.heads, dim // self.heads
        query, key, value = (part(tokens).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value))
        index: Tensor = self.relative_position_index  # type: ignore[assignment]
        bias = self.relative_position_bias_table[index.view(-1)].view(length, length, self.heads).permute(2, 0, 1)
        whole = bias[None] if mask is None else (mask[:, None] + bias[None]).repeat(count // len(mask), 1, 1, 1)
        whole = whole.expand(count, -1, -1, -1)
        found = fn.scaled_dot_product_attention(query, key, value, attn_mask=whole)
        return found.transpose(1, 2).reshape(count, length, dim)


def relative_positions(window: int) -> Tensor:
    """Return the row of the bias table for each pair of pixels of a window."""
    axis = torch.arange(window)
    rows, cols = (part.flatten() for part in torch.meshgrid(axis, axis, indexing="ij"))
    down, across = (part[:, None] - part[None] + window - 1 for part in (rows, cols))
    return down * (2 * window - 1) + across


class _Dense(nn.Module):
    def __init__(self, one: int, other: int) -> None:
        super().__init__()
        self.dense = nn.Linear(one, other)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.dense(tokens)
        return found


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.self = _SelfAttention(dim, heads, window)
        self.output = _Dense(dim, dim)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        found: Tensor = self.output(self.self(tokens, mask))
        return found


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, window: int, hidden: int, *, is_shifted: bool) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2 if is_shifted else 0
        self.layernorm_before = nn.LayerNorm(dim)
        self.attention = _Attention(dim, heads, window)
        self.layernorm_after = nn.LayerNorm(dim)
        self.intermediate = _Dense(dim, hidden)
        self.output = _Dense(hidden, dim)

    def forward(self, grid: Tensor) -> Tensor:
        """Return (n, y, x, dim) of the same."""
        _, height, width, _ = grid.shape
        window, shift = self.window, self.shift  # also where the map is smaller: it is padded
        normed = self.layernorm_before(grid)
        normed = fn.pad(normed, (0, 0, 0, -width % window, 0, -height % window))
        if shift:
            normed = torch.roll(normed, (-shift, -shift), (1, 2))
        mask = _shift_mask(normed.shape[1], normed.shape[2], window, shift).to(grid) if shift else None
        attended = _joined(self.attention(_parted(normed, window), mask), window, normed.shape)
        if shift:
            attended = torch.roll(attended, (shift, shift), (1, 2))
        grid = grid + attended[:, :height, :width]
        found: Tensor = grid + self.output(fn.gelu(self.intermediate(self.layernorm_after(grid))))
        return found


def _parted(grid: Tensor, window: int) -> Tensor:
    """Return the windows of a grid as sequences."""
    count, height, width, dim = grid.shape
    parts = grid.view(count, height // window, window, width // window, window, dim)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, dim)


def _joined(parts: Tensor, window: int, shape: torch.Size) -> Tensor:
    """Return the grid that windows are of."""
    count, height, width, dim = shape
    grid = parts.view(count, height // window, width // window, window, window, dim)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(count, height, width, dim)


def _shift_mask(height: int, width: int, window: int, shift: int) -> Tensor:
    """Return what keeps pixels apart that only a shift brought into one window."""
    regions = torch.zeros(1, height, width, 1)
    cuts = slice(0, -window), slice(-window, -shift), slice(-shift, None)
    for number, (rows, cols) in enumerate((rows, cols) for rows in cuts for cols in cuts):
        regions[:, rows, cols] = number
    parts = _parted(regions, window).squeeze(-1)
    return torch.where(parts[:, None] != parts[:, :, None], _MASKED, 0.0)


class _Downsample(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, grid: Tensor) -> Tensor:
        """Return (n, y / 2, x / 2, 2 dim)."""
        grid = fn.pad(grid, (0, 0, 0, grid.shape[2] % 2, 0, grid.shape[1] % 2))
        parts = [grid[:, row::2, col::2] for row, col in ((0, 0), (1, 0), (0, 1), (1, 1))]
        found: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return found


class _Stage(nn.Module):
    def __init__(self, form: Architecture, level: int) -> None:
        super().__init__()
        dim = form.dims[level]
        self.blocks = nn.ModuleList(
            _Block(dim, form.heads[level], form.window, form.hidden[level], is_shifted=bool(number % 2))
            for number in range(form.depths[level])
        )
        self.downsample = _Downsample(dim) if level + 1 < len(form.dims) else None

    def forward(self, grid: Tensor) -> Tensor:
        """Return the same, before it is made smaller."""
        for block in self.blocks:
            grid = block(grid)
        return grid


class _Encoder(nn.Module):
    def __init__(self, form: Architecture) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Stage(form, level) for level in range(len(form.dims)))


class _Backbone(nn.Module):
    def __init__(self, form: Architecture) -> None:
        super().__init__()
        self.embeddings = _Embeddings(form.dims[0], form.patch)
        self.encoder = _Encoder(form)
        self.hidden_states_norms = nn.ModuleDict(
            {f"stage{level}": nn.LayerNorm(dim) for level, dim in enumerate(form.dims, 1)}
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of each level: (n, dim, y, x)."""
        grid = self.embeddings(images)
        found = []
        for stage, norm in zip(self.encoder.layers, self.hidden_states_norms.values(), strict=True):
            grid = stage(grid)
            found.append(norm(grid).permute(0, 3, 1, 2).contiguous())
            if isinstance(stage, _Stage) and stage.downsample is not None:
                grid = stage.downsample(grid)
        return found


class _FeatureEncoder(nn.Module):
    def __init__(self, form: Architecture) -> None:
        super().__init__()
        self.backbone = _Backbone(form)


class _Conv(nn.Module):
    def __init__(self, one: int, other: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(one, other, side, padding=side // 2, bias=False)
        self.batch_norm = nn.BatchNorm2d(other)

    def forward(self, image: Tensor) -> Tensor:
        return fn.relu(self.batch_norm(self.conv(image)))


class _Decoder(nn.Module):
    def __init__(self, form: Architecture) -> None:
        super().__init__()
        *finer, coarsest = form.dims
        wide = form.decoder
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(pool), _Conv(coarsest, wide, 1)) for pool in POOLS
        )
        self.bottleneck = _Conv(coarsest + len(POOLS) * wide, wide, 3)
        self.lateral_convs = nn.ModuleList(_Conv(dim, wide, 1) for dim in finer)
        self.fpn_convs = nn.ModuleList(_Conv(wide, wide, 3) for _ in finer)
        self.fpn_bottleneck = _Conv(len(form.dims) * wide, wide, 3)
        self.classifier = nn.Conv2d(wide, 1, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return logits on the finest level: (n, 1, y, x)."""
        coarsest = levels[-1]
        pooled = [_scaled(module(coarsest), coarsest) for module in self.psp_modules]
        tops = [lateral(level) for lateral, level in zip(self.lateral_convs, levels, strict=False)]
        tops.append(self.bottleneck(torch.cat([coarsest, *pooled], 1)))
        for level in range(len(tops) - 1, 0, -1):
            tops[level - 1] = tops[level - 1] + _scaled(tops[level], tops[level - 1])
        found = [conv(top) for conv, top in zip(self.fpn_convs, tops, strict=False)] + tops[-1:]
        whole = torch.cat([found[0], *(_scaled(one, found[0]) for one in found[1:])], 1)
        logits: Tensor = self.classifier(self.fpn_bottleneck(whole))
        return logits


def _scaled(image: Tensor, like: Tensor) -> Tensor:
    return fn.interpolate(image, like.shape[-2:], mode="bilinear", align_corners=False)


class Btc(nn.Module):
    """The network: two pictures to logits of change.

    Parameters
    ----------
    form
        Widths and depths, such as `Architecture.of` reads them off weights.
    """

    def __init__(self, form: Architecture) -> None:
        super().__init__()
        self.enc = _FeatureEncoder(form)
        self.dec = _Decoder(form)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Return logits of change.

        Parameters
        ----------
        before, after : Tensor, (n, 3, y, x), float
            Red, green and blue, less ImageNet's means, over its standard deviations; y and x multiples of 32.

        Returns
        -------
        Tensor, (n, y, x)
        """
        count = len(before)
        levels = self.enc.backbone(torch.cat([before, after]))
        logits = self.dec([level[:count] - level[count:] for level in levels])
        return _scaled(logits, before)[:, 0]
