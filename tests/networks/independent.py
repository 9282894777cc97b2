"""Ask implementations of BTC that aren't ours: ``python -m tests.networks.independent KIND WEIGHTS PICTURES OUT``.

``transformers`` has the encoder and the decoder that the published weights were made with, under the same names
(4.48.3; later releases renamed them). ``torchgeo`` has all of it by itself, with torchvision's encoder and another
decoder, for the depths and widths of BTC-T. PICTURES is a file of NumPy with ``before`` and ``after``, float64
(n, 3, y, x): all is computed in double precision.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eoap_dask.networks.architecture import Architecture

State = dict[str, Tensor]


def _pretend_operators() -> Any:
    """Let torchvision be imported beside a PyTorch that it wasn't made for: it asks for two operators by name."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _parts(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}


def by_transformers(state: State, form: Architecture, before: Tensor, after: Tensor) -> Tensor:
    """Return the logits, (n, 1, y, x)."""
    from transformers import SwinBackbone, SwinConfig, UperNetConfig
    from transformers.models.upernet.modeling_upernet import UperNetHead

    config = SwinConfig(
        image_size=256,
        embed_dim=form.dim,
        depths=list(form.depths),
        num_heads=list(form.heads),
        window_size=form.window,
        mlp_ratio=form.ratio,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    encoder = SwinBackbone(config).eval().double()
    encoder.load_state_dict(_parts(state, "enc.backbone."), strict=True)
    head = UperNetConfig(backbone_config=config, hidden_size=form.decoder, pool_scales=[1, 2, 3, 6], num_labels=1)
    decoder = UperNetHead(head, list(form.dims)).eval().double()
    decoder.load_state_dict(_parts(state, "dec."), strict=True)
    maps = [one - other for one, other in zip(*(encoder(date).feature_maps for date in (before, after)), strict=True)]
    found: Tensor = torch.nn.functional.interpolate(decoder(maps), before.shape[-2:], mode="bilinear")
    return found


def by_torchgeo(state: State, form: Architecture, before: Tensor, after: Tensor) -> Tensor:
    """Return the logits, (n, 1, y, x); for the depths and widths of BTC-T."""
    package = types.ModuleType("torchgeo.models")  # without all that its other models need
    spec = find_spec("torchgeo")
    assert spec is not None
    assert spec.origin is not None
    package.__path__ = [str(Path(spec.origin).parent / "models")]
    sys.modules["torchgeo.models"] = package
    from torchgeo.models.btc import BTC

    model = BTC("swin_tiny").eval().double()
    model.encoder.image_normalization = torch.nn.Identity()  # these pictures are normal already
    renamed = {
        **_encoder_for_torchvision(_parts(state, "enc.backbone."), form),
        **_decoder_for_smp(_parts(state, "dec."), form),
    }
    own = model.state_dict()
    unused = [name for name in own if ".norm." in name and "feature_extractor" in name]
    missing, further = model.load_state_dict(renamed, strict=False)
    assert not further, further
    assert set(missing) <= set(unused), missing
    found: Tensor = model(torch.cat([before, after], dim=1))
    return found


def _encoder_for_torchvision(state: State, form: Architecture) -> State:
    features = "encoder.feature_extractor.features"
    found = {
        f"{features}.0.{number}.{kind}": state[f"embeddings.{name}.{kind}"]
        for number, name in ((0, "patch_embeddings.projection"), (2, "norm"))
        for kind in ("weight", "bias")
    }
    names = {
        "norm1": "layernorm_before",
        "attn.proj": "attention.output.dense",
        "norm2": "layernorm_after",
        "mlp.0": "intermediate.dense",
        "mlp.3": "output.dense",
    }
    for level, depth in enumerate(form.depths):
        for block in range(depth):
            theirs, ours = f"{features}.{2 * level + 1}.{block}", f"encoder.layers.{level}.blocks.{block}"
            attention = f"{ours}.attention.self"
            for kind in ("weight", "bias"):
                found |= {f"{theirs}.{new}.{kind}": state[f"{ours}.{old}.{kind}"] for new, old in names.items()}
                found[f"{theirs}.attn.qkv.{kind}"] = torch.cat(
                    [state[f"{attention}.{part}.{kind}"] for part in ("query", "key", "value")]
                )
            found[f"{theirs}.attn.relative_position_bias_table"] = state[f"{attention}.relative_position_bias_table"]
            found[f"{theirs}.attn.relative_position_index"] = state[f"{attention}.relative_position_index"].flatten()
        for kind in ("weight", "bias"):
            found[f"encoder.norms.{level}.{kind}"] = state[f"hidden_states_norms.stage{level + 1}.{kind}"]
        if level + 1 < len(form.depths):
            theirs, ours = f"{features}.{2 * level + 2}", f"encoder.layers.{level}.downsample"
            found |= {
                f"{theirs}.{name}": state[f"{ours}.{name}"] for name in ("norm.weight", "norm.bias", "reduction.weight")
            }
    return found


def _decoder_for_smp(state: State, form: Architecture) -> State:
    coarsest = len(form.depths) - 2
    names = {
        **{f"decoder.psp.blocks.{number}.1": f"psp_modules.{number}.1" for number in range(4)},
        "decoder.psp.out_conv": "bottleneck",
        "decoder.fusion_block": "fpn_bottleneck",
        # from coarse to fine there, from fine to coarse here
        **{
            f"decoder.fpn_lateral_blocks.{number}.conv_norm_relu": f"lateral_convs.{coarsest - number}"
            for number in range(coarsest + 1)
        },
        **{f"decoder.fpn_conv_blocks.{number}": f"fpn_convs.{coarsest - number}" for number in range(coarsest + 1)},
    }
    found = {
        f"{new}.{of_conv(part)}.{kind}": one
        for new, old in names.items()
        for name, one in _parts(state, f"{old}.").items()
        for part, kind in [name.split(".", 1)]
    }
    return {**found, **{f"final_layer.0.{kind}": state[f"classifier.{kind}"] for kind in ("weight", "bias")}}


def of_conv(part: str) -> str:
    """Return the number of a part of a convolution there."""
    return {"conv": "0", "batch_norm": "1"}[part]


def main(kind: str, weights: str, pictures: str, out: str) -> None:
    """Write the logits of pairs of pictures."""
    operators = _pretend_operators()
    from safetensors.torch import load_file

    state = load_file(weights)
    form = Architecture.of({name: tuple(one.shape) for name, one in state.items()})
    given: Mapping[str, Any] = np.load(pictures)
    dates = (torch.from_numpy(given[name]) for name in ("before", "after"))
    with torch.inference_mode():
        found = {"transformers": by_transformers, "torchgeo": by_torchgeo}[kind](state, form, *dates)
    np.save(out, found.numpy())
    del operators


if __name__ == "__main__":
    main(*sys.argv[1:])
