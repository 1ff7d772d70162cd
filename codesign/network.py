"""An `Architecture` as a float torch network, built from its primitive layers; its weights on disk without pickle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codesign.core.architecture import Architecture
from codesign.core.errors import DataError
from codesign.core.layers import (
    Activation,
    Conv2d,
    DepthwiseConv2d,
    Flatten,
    Layer,
    Linear,
    Norm,
    Parallel,
    Pool,
    Reshape,
    Shape,
    Transpose,
    Windows,
    with_shapes,
)

EPSILON = 1e-5  # added to the variance by every norm
ELEMENTWISE = {"relu": F.relu, "gelu": F.gelu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


class Row(nn.Sequential):
    """Modules in a row, one for each layer of `layers`, so that both can be walked together.

    Attributes:
        layers: What each module stands for.
        shape: Shape that goes in, without the batch.
    """

    def __init__(self, layers: Sequence[Layer], shape: Shape) -> None:
        super().__init__(*(_module(layer, inner) for layer, inner in with_shapes(layers, shape)))
        self.layers = tuple(layers)
        self.shape = shape


class Network(Row):
    """The float network of an architecture; takes (batch, *input_shape), channels last, and returns real outputs."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture.layers, architecture.input_shape)
        self.architecture = architecture


def build(architecture: Architecture, seed: int, *, starts_at_zero: bool = False) -> Network:
    """Return the network of `architecture` with random weights, the same for the same seed.

    Args:
        architecture: What to build.
        seed: Of the weights.
        starts_at_zero: A linear output layer has zero weights, for training from scratch. From random ones a regression
            starts with a large error, and its first steps push units of narrow layers below zero for good.

    Source: Zhang, Dauphin and Ma, Fixup initialization, arXiv 1901.09321, section 3, for the output layer of zeros.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(architecture)
    if starts_at_zero and len(network) and isinstance(network[-1], nn.Linear):
        nn.init.zeros_(network[-1].weight)
        nn.init.zeros_(network[-1].bias)
    return network


def save_network(folder: Path, architecture: Architecture, network: nn.Module) -> tuple[Path, Path]:
    """Write architecture.json and weights.safetensors into `folder` and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "architecture.json", folder / "weights.safetensors"
    paths[0].write_text(architecture.to_json())
    save_file({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, paths[1])
    return paths


def load_network(folder: Path) -> Network:
    """Return the network that `save_network` wrote, in eval mode.

    Raises:
        DataError: A file is missing or damaged, or the weights are those of another architecture.
    """
    try:
        network = Network(Architecture.from_json((folder / "architecture.json").read_text()))
        network.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"The network in {folder} cannot be read: {reason}; "
            "allowed: the architecture.json and weights.safetensors of one network."
        ) from error
    return network.eval()


class ChannelsLastConv2d(nn.Conv2d):
    """A convolution over (batch, height, width, channels); the permuted view is torch's own channels-last format."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class BatchNorm(nn.BatchNorm1d):
    """A batch norm whose statistics belong to the entries of one axis; all other axes count as batch."""

    def __init__(self, shape: Shape, axis: int) -> None:
        super().__init__(shape[axis], eps=EPSILON)
        axis %= len(shape)
        inner = math.prod(shape[axis + 1 :])
        self.view = (-1, shape[axis], inner) if inner > 1 else (-1, shape[axis])

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(
            x.reshape(self.view),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )
        return y.view(x.shape)


class LayerNorm(nn.LayerNorm):
    """A layer norm over one axis, each other position by itself."""

    def __init__(self, shape: Shape, axis: int) -> None:
        super().__init__(shape[axis], eps=EPSILON)
        self.axis = axis % len(shape) + 1

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(self.axis, -1)).movedim(-1, self.axis)


class Activate(nn.Module):
    """The function of an `Activation`."""

    def __init__(self, layer: Activation) -> None:
        super().__init__()
        self.kind = layer.kind
        self.slope_bits = layer.slope_bits
        self.slope = 2.0**-layer.slope_bits if layer.slope_bits else 0.01

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "leaky_relu":
                return F.leaky_relu(x, self.slope)
            case "softmax":
                return F.softmax(x, dim=-1)
        return ELEMENTWISE[self.kind](x) if self.kind in ELEMENTWISE else x


class Rearrange(nn.Module):
    """A change of shape without parameters: `Pool`, `Flatten`, `Reshape`, `Transpose` or `Windows`."""

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__()
        self.layer = layer
        self.shape = layer.output_shape(shape)
        self.axis = layer.axis % len(shape) + 1 if isinstance(layer, Pool) else 0

    def forward(self, x: Tensor) -> Tensor:
        match self.layer:
            case Pool(kind="mean", keep=keep):
                return x.mean(self.axis, keepdim=keep)
            case Pool(kind="sum", keep=keep):
                return x.sum(self.axis, keepdim=keep)
            case Pool(keep=keep):
                return x.amax(self.axis, keepdim=keep)
            case Windows(size=size, stride=stride):
                x = x.unfold(1, size[0], stride[0]).unfold(2, size[1], stride[1]).permute(0, 1, 2, 4, 5, 3)
            case Transpose(axes=axes):
                return x.permute(0, *(a + 1 for a in axes))
        return x.reshape(-1, *self.shape)


class Branches(nn.Module):
    """Rows that take the same input and are merged."""

    def __init__(self, layer: Parallel, shape: Shape) -> None:
        super().__init__()
        self.merge = layer.merge
        self.branches = nn.ModuleList(Row(branch, shape) for branch in layer.branches)

    def forward(self, x: Tensor) -> Tensor:
        results = [branch(x) for branch in self.branches]
        if self.merge == "concat":
            return torch.cat(results, dim=-1)
        total = results[0]
        for result in results[1:]:
            total = total @ result if self.merge == "matmul" else total + result
        return total


def _module(layer: Layer, shape: Shape) -> nn.Module:  # noqa: PLR0911 - one line for each kind of layer
    match layer:
        case Linear(width=width):
            return nn.Linear(shape[-1], width)
        case Conv2d(channels=channels, kernel=kernel, stride=stride):
            return ChannelsLastConv2d(shape[-1], channels, kernel, stride, layer.zeros)
        case DepthwiseConv2d(kernel=kernel, stride=stride):
            return ChannelsLastConv2d(shape[-1], shape[-1], kernel, stride, layer.zeros, groups=shape[-1])
        case Norm(kind="batch", axis=axis):
            return BatchNorm(shape, axis)
        case Norm(axis=axis):
            return LayerNorm(shape, axis)
        case Activation():
            return Activate(layer)
        case Parallel():
            return Branches(layer, shape)
        case Pool() | Flatten() | Reshape() | Transpose() | Windows():
            return Rearrange(layer, shape)
    raise TypeError(f"No torch module is known for the layer {layer!r}.")
