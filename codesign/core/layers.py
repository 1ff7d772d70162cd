"""Primitive layers: the vocabulary that blocks expand into. Shapes are channels-last and leave out the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from codesign.core.errors import InvalidValueError, UnsupportedError
from codesign.core.geometry import Pair, pair

Shape = tuple[int, ...]
ActivationKind = Literal["relu", "leaky_relu", "gelu", "sigmoid", "tanh", "identity", "softmax"]
NormKind = Literal["none", "batch", "layer"]


@dataclass(frozen=True)
class Layer:
    """One primitive layer. A layer that no hardware view can build exactly says why in `float_only`."""

    float_only: ClassVar[str] = ""

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape that comes out where `shape` goes in."""
        return shape

    def parameters(self, shape: Shape) -> int:
        """Return the number of trained parameters (batch-norm scale and shift counted, running statistics not)."""
        return 0

    def macs(self, shape: Shape) -> int:
        """Return the multiply-accumulate operations of one forward pass."""
        return 0


@dataclass(frozen=True)
class Linear(Layer):
    """A dense layer over the last axis, with shared weights at all other positions."""

    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InvalidValueError(f"The width of a linear layer is {self.width}; allowed: 1 or more.")

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.width)

    def parameters(self, shape: Shape) -> int:
        return (shape[-1] + 1) * self.width

    def macs(self, shape: Shape) -> int:
        return math.prod(shape) * self.width


@dataclass(frozen=True)
class Conv2d(Layer):
    """A convolution over (height, width, channels) in steps of `stride`; over a sequence, if the height is 1.

    Padding "same" adds (kernel - 1) / 2 zeros on every side, for an odd kernel; "valid" adds none.

    Attributes:
        channels: Outputs.
        kernel: Height and width of a window; one number stands for both.
        stride: Steps between windows, down and to the right; one number stands for both.
    """

    channels: int
    kernel: Pair
    padding: Literal["same", "valid"] = "same"
    stride: Pair = (1, 1)

    def __post_init__(self) -> None:
        for name in ("kernel", "stride"):
            object.__setattr__(self, name, pair(getattr(self, name)))
        has_middle = self.padding == "valid" or all(size % 2 for size in self.kernel)
        if min(self.channels, *self.kernel, *self.stride) < 1 or not has_middle:
            raise InvalidValueError(
                f"A convolution has {self.channels} channels, kernel {_by(self.kernel)}, stride {_by(self.stride)}, "
                f'padding "{self.padding}"; allowed: 1 or more of each, and an odd kernel for "same".'
            )

    @property
    def zeros(self) -> Pair:
        """Zeros added above and below, and on the left and on the right."""
        return (self.kernel[0] // 2, self.kernel[1] // 2) if self.padding == "same" else (0, 0)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise InvalidValueError(f"A convolution received shape {shape}; allowed: (height, width, channels).")
        free = [size + 2 * zeros - side for size, zeros, side in zip(shape[:2], self.zeros, self.kernel, strict=True)]
        if min(free) < 0:
            raise InvalidValueError(f"A {_by(self.kernel)} convolution leaves nothing of an image {shape}.")
        height, width = (steps // stride + 1 for steps, stride in zip(free, self.stride, strict=True))
        return height, width, self.channels

    def parameters(self, shape: Shape) -> int:
        return (math.prod(self.kernel) * shape[-1] + 1) * self.channels

    def macs(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * math.prod(self.kernel) * shape[-1]


@dataclass(frozen=True)
class DepthwiseConv2d(Layer):
    """A convolution of every channel by itself, over (height, width, channels); the fields are those of `Conv2d`."""

    kernel: Pair
    padding: Literal["same", "valid"] = "same"
    stride: Pair = (1, 1)

    def __post_init__(self) -> None:
        for name in ("kernel", "stride"):
            object.__setattr__(self, name, pair(getattr(self, name)))
        _ = self._with_channels(1)

    def _with_channels(self, channels: int) -> Conv2d:
        return Conv2d(channels, self.kernel, self.padding, self.stride)

    @property
    def zeros(self) -> Pair:
        """Zeros added above and below, and on the left and on the right."""
        return self._with_channels(1).zeros

    def output_shape(self, shape: Shape) -> Shape:
        return self._with_channels(shape[-1]).output_shape(shape)

    def parameters(self, shape: Shape) -> int:
        return (math.prod(self.kernel) + 1) * shape[-1]

    def macs(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * math.prod(self.kernel)


@dataclass(frozen=True)
class Norm(Layer):
    """Batch or layer normalization; entries along `axis` have a scale and a shift of their own.

    A batch norm over the last axis right after a linear layer or a convolution is folded into it. Over another axis it
    becomes a multiplication by constants. A layer norm needs a square root and a division and is trained in float only.
    """

    kind: Literal["batch", "layer"]
    axis: int = -1

    @property
    def float_only(self) -> str:  # type: ignore[override]
        """Why the layer cannot be built, or an empty text."""
        return "a layer norm divides by a standard deviation; use a batch norm" if self.kind == "layer" else ""

    def parameters(self, shape: Shape) -> int:
        return 2 * shape[self.axis]


@dataclass(frozen=True)
class Activation(Layer):
    """An element-wise function, or softmax over the last axis. A leaky ReLU has slope 2^-slope_bits below zero.

    Hardware looks up GELU, sigmoid, tanh, softmax and a leaky ReLU of slope 0.01 (`slope_bits` 0) in tables, which cost
    more than a ReLU or a leaky ReLU whose slope is a power of two.
    """

    kind: ActivationKind
    slope_bits: int = 0

    @property
    def has_table(self) -> bool:
        """True if hardware looks the function up, element by element."""
        return self.kind in ("gelu", "sigmoid", "tanh") or (self.kind == "leaky_relu" and not self.slope_bits)


@dataclass(frozen=True)
class Pool(Layer):
    """Mean, maximum or sum over one axis (counted without the batch)."""

    kind: Literal["mean", "max", "sum"]
    axis: int
    keep: bool = False

    def output_shape(self, shape: Shape) -> Shape:
        if not -len(shape) <= self.axis < len(shape):
            raise InvalidValueError(
                f"A {self.kind} over axis {self.axis} received shape {shape}, which has no such axis."
            )
        axis = self.axis % len(shape)
        return (*shape[:axis], *([1] if self.keep else []), *shape[axis + 1 :])


@dataclass(frozen=True)
class Windows(Layer):
    """(height, width, channels) to (height', width', pixels of a window, channels); none is padded.

    Attributes:
        size: Height and width of a window; one number stands for both.
        stride: Steps between windows, down and to the right; one number stands for both.
    """

    size: Pair
    stride: Pair

    def __post_init__(self) -> None:
        for name in ("size", "stride"):
            object.__setattr__(self, name, pair(getattr(self, name)))

    def output_shape(self, shape: Shape) -> Shape:
        height, width, _ = Conv2d(1, self.size, "valid", self.stride).output_shape(shape)
        return height, width, math.prod(self.size), shape[-1]


@dataclass(frozen=True)
class Flatten(Layer):
    """All elements in one row."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


@dataclass(frozen=True)
class Reshape(Layer):
    """The same elements in another shape."""

    shape: Shape

    def output_shape(self, shape: Shape) -> Shape:
        if math.prod(shape) != math.prod(self.shape):
            raise InvalidValueError(f"A shape {shape} cannot become {self.shape}: the number of elements differs.")
        return self.shape


@dataclass(frozen=True)
class Transpose(Layer):
    """Axes in another order: result axis i is input axis axes[i]."""

    axes: tuple[int, ...]

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape[a] for a in self.axes)


@dataclass(frozen=True)
class Parallel(Layer):
    """Branches that take the same input and are merged: a residual, an attention, an interaction.

    Merges: `add` broadcasts; `matmul` multiplies two branches as matrices over their last two axes; `concat` joins
    along the last axis. An empty branch is the identity.
    """

    branches: tuple[tuple[Layer, ...], ...]
    merge: Literal["add", "matmul", "concat"] = "add"

    @property
    def float_only(self) -> str:  # type: ignore[override]
        """Why the layer cannot be built, or an empty text."""
        reasons = [r for branch in self.branches for layer in branch if (r := layer.float_only)]
        return "; ".join(dict.fromkeys(reasons))

    def output_shape(self, shape: Shape) -> Shape:
        shapes = [shape_after(branch, shape) for branch in self.branches]
        if self.merge == "matmul":
            return (*shapes[0][:-1], shapes[1][-1])
        if self.merge == "concat":
            return (*shapes[0][:-1], sum(s[-1] for s in shapes))
        has_equal_ranks = len({len(s) for s in shapes}) == 1
        if not has_equal_ranks or any(len(set(sizes) - {1}) > 1 for sizes in zip(*shapes, strict=True)):
            raise InvalidValueError(
                f"Branches of shapes {shapes} cannot be added; allowed: equal sizes, or 1 to broadcast."
            )
        return tuple(max(sizes) for sizes in zip(*shapes, strict=True))

    def parameters(self, shape: Shape) -> int:
        return sum(layer.parameters(s) for branch in self.branches for layer, s in with_shapes(branch, shape))

    def macs(self, shape: Shape) -> int:
        total = sum(layer.macs(s) for branch in self.branches for layer, s in with_shapes(branch, shape))
        if self.merge == "matmul":
            total += math.prod(self.output_shape(shape)) * shape_after(self.branches[0], shape)[-1]
        return total


def _by(sizes: Pair) -> str:
    return "x".join(map(str, sizes))


def with_shapes(layers: Sequence[Layer], shape: Shape) -> list[tuple[Layer, Shape]]:
    """Return each layer with the shape that reaches it."""
    pairs = []
    for layer in layers:
        pairs.append((layer, shape))
        shape = layer.output_shape(shape)
    return pairs


def shape_after(layers: Sequence[Layer], shape: Shape) -> Shape:
    """Return the shape that comes out of `layers` in a row."""
    for layer in layers:
        shape = layer.output_shape(shape)
    return shape


def over_sequence(layers: tuple[Layer, ...], shape: Shape) -> tuple[Layer, ...]:
    """Return layers for images of height 1 as they act on a sequence of `shape` (length, channels).

    Raises:
        InvalidValueError: The shape is not one of a sequence.
    """
    if len(shape) != 2:
        raise InvalidValueError(f"A layer over sequences received shape {shape}; allowed: (length, channels).")
    image = (1, *shape)
    return Reshape(image), *layers, Reshape(shape_after(layers, image)[1:])


def require_buildable(layers: Sequence[Layer]) -> None:
    """Raise UnsupportedError, naming the layer and what to use instead, if a layer cannot be built in hardware."""
    for i, layer in enumerate(layers):
        if layer.float_only:
            raise UnsupportedError(f"Layer {i} ({layer}) cannot be built in hardware: {layer.float_only}.")
