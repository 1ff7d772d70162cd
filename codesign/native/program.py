"""A network as a program for the kernels: one op a layer, its memory, and where its gradients go."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from codesign.core import layers as primitive
from codesign.core.geometry import Pair
from codesign.core.layers import Flatten, Layer, Norm, Parallel, Pool, Reshape, Shape, Transpose, Windows, with_shapes
from codesign.native.compile import Op, Table
from codesign.network import Activate, BatchNorm, Branches, Network

LINEAR, NORM, ACTIVATE, POOL, GATHER = range(5)  # as in layers.h, like the next three
POOLINGS = ("mean", "sum", "max")
LOSSES = ("cross_entropy", "mse", "l1")
LANES = 16  # a batch is a multiple of it
MOST_PATCHES = 8192  # rows that a convolution takes: beyond, memory is the limit, and torch is as fast or faster


class UnknownLayerError(Exception):
    """The kernels do not know a layer."""


@dataclass(frozen=True)
class Program:
    """What the kernels run.

    Attributes:
        table: What they are called with.
        batch: Samples of one pass.
        memory: All tensors that the table points to.
    """

    table: Table
    batch: int
    memory: list[object]


@dataclass(frozen=True)
class Rows:
    """A tensor (*shape, batch) as rows (elements, batch), and its gradient, None where nobody asks for it."""

    shape: Shape
    value: Tensor
    gradient: Tensor | None


def program_of(network: Network, loss: str, batch: int) -> Program:
    """Return the program of a network, whose parameters have their gradients beside them already.

    Raises:
        UnknownLayerError: There is no kernel for a layer.
    """
    builder = _Builder(batch)
    x = Rows(network.shape, torch.zeros(math.prod(network.shape), batch), None)
    y = builder.row(list(network), network.layers, x)
    assert y.gradient is not None
    seen: set[int] = set()
    for op in reversed(builder.ops):  # the order of the backward pass: all readers of x but the first one add
        if op.gx != op.gy:
            op.adds_backward = op.gx in seen
            seen.add(op.gx)
    ops = (Op * len(builder.ops))(*builder.ops)
    pointers = (t.data_ptr() for t in (x.value, y.value, y.gradient))
    table = Table(ops, len(ops), batch, len(x.value), len(y.value), LOSSES.index(loss), *pointers)
    return Program(table, batch, [builder.memory, x, y])


@dataclass(frozen=True)
class _Builder:
    """Ops in the order of the forward pass, and the tensors that they point to."""

    batch: int
    ops: list[Op] = field(default_factory=list)
    memory: list[object] = field(default_factory=list)

    def row(self, modules: Sequence[nn.Module], layers: Sequence[Layer], x: Rows) -> Rows:
        """Append layers in a row and return what comes out."""
        start = x.value
        for module, (layer, _) in zip(modules, with_shapes(layers, x.shape), strict=True):
            x = self.layer(module, layer, x, is_shared=x.value is start)
        return x

    def layer(  # noqa: PLR0911 - one for each kind of layer
        self, module: nn.Module, layer: Layer, x: Rows, *, is_shared: bool
    ) -> Rows:
        """Append one layer and return what comes out; `is_shared` where other layers may read x too."""
        shape = layer.output_shape(x.shape)
        match layer, module:
            case primitive.Linear(), nn.Linear():
                return self._linear(module, x, shape)
            case primitive.Conv2d(), nn.Conv2d() if (rows := _patches(layer, x.shape)).size <= MOST_PATCHES:
                return self._linear(module, self._gather(x, (*rows.shape[:2], rows[0, 0].size), rows), shape)
            case Norm(axis=axis), BatchNorm():
                statistics = {"mean": module.running_mean, "variance": module.running_var}
                more = {"saved": torch.zeros(2 * shape[axis]), "momentum": module.momentum, "epsilon": module.eps}
                y = self._rows(shape)
                return self._add(NORM, x, y, _around(axis, shape), **_parameters(module), **statistics, **more)
            case primitive.Activation(kind="identity"), _:
                return x
            case primitive.Activation(kind="relu" | "leaky_relu"), Activate():
                is_free = not is_shared and self.ops[-1].kind != POOL  # whose gradient looks at what it gave
                slope = module.slope if layer.kind == "leaky_relu" else 0.0
                return self._add(ACTIVATE, x, x if is_free else self._rows(shape), (len(x.value),), slope=slope)
            case Pool(kind=kind, axis=axis), _:
                return self._add(POOL, x, self._rows(shape), _around(axis, x.shape), pooling=POOLINGS.index(kind))
            case ((Flatten() | Reshape()), _):
                return Rows(shape, x.value, x.gradient)
            case Transpose(axes=axes), _:
                return self._gather(x, shape, _numbers(x.shape).transpose(axes))
            case Windows(size=size, stride=stride), _:
                return self._gather(x, shape, _windows(_numbers(x.shape), size, stride).transpose(0, 1, 3, 4, 2))
            case Parallel(merge="add"), Branches():
                y = self._rows(shape)
                for i, (branch, layers) in enumerate(zip(module.branches, layer.branches, strict=True)):
                    part = self.row(list(branch), layers, x)
                    self._gather(part, shape, np.broadcast_to(_numbers(part.shape), shape), y, adds_forward=i > 0)
                return y
        raise UnknownLayerError(repr(layer))

    def _rows(self, shape: Shape) -> Rows:
        value, gradient = torch.zeros(2, math.prod(shape), self.batch)
        return Rows(shape, value, gradient)

    def _add(self, kind: int, x: Rows, y: Rows, sizes: tuple[int, ...], **fields: object) -> Rows:
        fields |= {"x": x.value, "y": y.value, "gx": x.gradient, "gy": y.gradient}
        op = Op(kind=kind, sizes=(ctypes.c_int64 * 3)(*sizes))
        for name, value in fields.items():
            setattr(op, name, value.data_ptr() if isinstance(value, Tensor) else value)
        self.ops.append(op)
        self.memory.append(fields)
        return y

    def _linear(self, module: nn.Module, x: Rows, shape: Shape) -> Rows:
        sizes = math.prod(x.shape[:-1]), x.shape[-1], shape[-1]
        assert module.weight.numel() == sizes[1] * sizes[2]
        return self._add(LINEAR, x, self._rows(shape), sizes, **_parameters(module))

    def _gather(
        self, x: Rows, shape: Shape, rows: np.ndarray, y: Rows | None = None, *, adds_forward: bool = False
    ) -> Rows:
        index = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int32).ravel())
        sizes = len(x.value), len(index)
        return self._add(GATHER, x, y or self._rows(shape), sizes, index=index, adds_forward=adds_forward)


def _parameters(module: nn.Module) -> dict[str, object]:
    weight, bias = module.weight, module.bias
    assert isinstance(weight, nn.Parameter)
    assert isinstance(bias, nn.Parameter)
    return {"weight": weight.data, "bias": bias.data, "gweight": weight.grad, "gbias": bias.grad}


def _around(axis: int, shape: Shape) -> tuple[int, int, int]:
    axis %= len(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _numbers(shape: Shape) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def _windows(image: np.ndarray, size: Pair, stride: Pair) -> np.ndarray:
    """Return the windows (height', width', channels, *size) of an image (height, width, channels)."""
    return np.lib.stride_tricks.sliding_window_view(image, size, (0, 1))[:: stride[0], :: stride[1]]


def _patches(layer: primitive.Conv2d, shape: Shape) -> np.ndarray:
    rows, columns = ((zeros, zeros) for zeros in layer.zeros)
    image = np.pad(_numbers(shape), (rows, columns, (0, 0)), constant_values=-1)
    return _windows(image, layer.kernel, layer.stride)
