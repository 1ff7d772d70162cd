"""Random small integer networks, over all operations, and vectors to run them on; random small search spaces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from codesign.blocks.conv1d import Conv1d
from codesign.blocks.conv2d import Conv2d
from codesign.blocks.conv_attention import ConvAttention
from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.blocks.linear_interaction import LinearInteraction
from codesign.blocks.mlp_mixer import MlpMixer
from codesign.blocks.pool import Pool
from codesign.blocks.separable_conv1d import SeparableConv1d
from codesign.blocks.separable_conv2d import SeparableConv2d
from codesign.core.architecture import Architecture
from codesign.core.fixed_point import FixedPoint, Overflow, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import (
    OPERATIONS,
    Add,
    Affine,
    Input,
    LeakyRelu,
    Linear,
    MatMul,
    Max,
    Multiply,
    Operation,
    Patches,
    Quantize,
    Relu,
    Reshape,
    Sum,
    Table,
    Transpose,
)
from codesign.core.space import Choice, Repeat, SearchSpace
from codesign.synthesis.vectors import edge_rows, random_rows

FRACTION_BITS = st.integers(-2, 8)
ALL = tuple(name for name in OPERATIONS if name != "Input")
MLP = ("Quantize", "Linear", "Relu", "LeakyRelu", "Table")
FAMILIES = ("mlp", "deep_sets", "conv", "any")


def vectors_for(network: IntegerNetwork, n: int = 64, seed: int = 0) -> np.ndarray:
    """Return `n` input mantissas: edge rows (zero, min, max, saturating corners), then random rows."""
    return np.concatenate([edge_rows(network, seed, corners=4), random_rows(network, n, seed)])[:n]


@st.composite
def formats(draw, max_bits=6, fraction_bits=FRACTION_BITS, allow_zero_width=True):
    """A format of 0 to `max_bits` bits; integer_bits comes out negative or beyond the width now and then."""
    smallest = 0 if allow_zero_width and draw(st.integers(0, 7)) == 7 else 1
    width = 0 if smallest == 0 else draw(st.integers(1, max_bits))
    return FixedPoint(width, width - draw(fraction_bits), draw(st.booleans()))


@st.composite
def integer_networks(
    draw,
    family: str | None = None,
    operations: Sequence[str] = ALL,
    max_steps: int = 6,
    max_bits: int = 6,
    max_width: int = 6,
    roundings: Sequence[Rounding] = tuple(Rounding),
    overflows: Sequence[Overflow] = tuple(Overflow),
    per_channel: bool = True,
    allow_zero_width: bool = True,
):
    """A valid IntegerNetwork.

    Args:
        family: "mlp" (one axis; Quantize, Linear, Relu, LeakyRelu, Table), "deep_sets" (a walk per particle, Sum or Max
            over the particles, a walk), "conv" (Patches of an image or a sequence, Linear, a walk, flattened, a walk),
            "any" (a free walk over all operations and ranks 1 to 3), or None for one of these.
        operations: Names of operations that may be drawn (Input, and what a family stands on, always may).
        max_steps: Longest walk.
        max_bits: Widest format of inputs and of Quantize.
        max_width: Most entries of an axis.
        roundings: Roundings of Input and Quantize.
        overflows: Overflows of Quantize.
        per_channel: Draw formats for each entry of the last axis too.
        allow_zero_width: Draw formats of width 0 (constant zero) now and then.
    """
    family = family or draw(st.sampled_from((*FAMILIES, "any")))
    size = st.integers(1, max_width)
    walk = _Walk(draw, max_bits, max_width, roundings, overflows, per_channel, allow_zero_width)
    simple = [name for name in MLP if name in operations]
    steps = st.integers(1, max_steps)
    if family == "mlp":
        walk.input((draw(size),))
        walk.go(simple, draw(steps))
    elif family == "deep_sets":
        walk.input((draw(st.integers(2, max_width)), draw(st.integers(1, 4))))
        walk.go(simple, draw(st.integers(1, max(1, max_steps // 2))))
        walk.pool(draw(st.booleans()), axis=0, keep=False)
        walk.go(simple, draw(st.integers(0, max(1, max_steps // 2))))
    elif family == "conv":
        rows, columns, channels = (draw(st.integers(*ends)) for ends in ((1, 4), (2, 4), (1, 2)))
        walk.input((rows, columns, channels) if rows > 1 else (columns, channels))
        if rows == 1:
            walk.add_step(Reshape((0,), (1, columns, channels)))
        walk.patches()
        walk.linear()
        walk.go([n for n in simple if n != "Linear"], draw(st.integers(0, 3)))
        walk.add_step(Reshape((walk.last,), (math.prod(walk.shape),)))
        walk.go(simple, draw(st.integers(0, 2)))
    else:
        rank = draw(st.integers(1, 3))
        walk.input(tuple(draw(st.integers(1, max_width if rank == 1 else 4)) for _ in range(rank)))
        walk.go(list(operations), draw(steps))
    return IntegerNetwork(tuple(walk.steps))


@st.composite
def image_networks(
    draw, image: tuple[int, int] | None = None, max_convolutions: int = 2, mixes: tuple[int, int] = (0, 1)
):
    """A network that can stream: convolutions and what acts on each pixel, then pooled, flattened or left as an image.

    In between, pixels may be mixed: by attention, or by what they have in common.

    Args:
        image: Rows and columns of the input, or None for any of 2 to 5. A sequence of as many positions is drawn too.
        max_convolutions: Most convolutions in a row, those of 1x1 not counted.
        mixes: Fewest and most mixes.
    """
    walk = _ImageWalk(draw, 4, 3, tuple(Rounding), tuple(Overflow), per_channel=True, allow_zero_width=False)
    size = st.integers(2, 5)
    rows, columns = image or (draw(size), draw(size))
    channels = draw(st.integers(1, 2))
    if draw(st.integers(0, 2)):
        walk.input((rows, columns, channels))
    else:
        walk.input((rows * columns, channels))
        walk.add_step(Reshape((0,), (1, rows * columns, channels)))
    pixelwise = ("linear", "relu", "leakyrelu", "quantize", "table", "residual", "product", "scale")
    kinds = st.sampled_from(["attention", "turned_attention", "squeeze"])
    mixing = draw(st.lists(kinds, min_size=mixes[0], max_size=mixes[1]))
    for _ in range(draw(st.integers(0, max_convolutions))):
        walk.go(pixelwise, draw(st.integers(0, 2)))
        if mixing and draw(st.booleans()):
            walk.mix(mixing.pop())
        walk.quantize()
        before = walk.last
        walk.window()
        walk.linear()
        if walk.first_alike <= before and walk.shape == walk.ranges[before].shape and draw(st.booleans()):
            walk.add_step(Add((walk.last, before)))
    while mixing:
        walk.mix(mixing.pop())
    walk.go(pixelwise, draw(st.integers(1, 2)))
    match draw(st.sampled_from(["image", "flat", "row", "sum", "max", "mixed"])):
        case "flat":
            walk.quantize()
            walk.add_step(Reshape((walk.last,), (math.prod(walk.shape),)))
        case "row":
            walk.add_step(Reshape((walk.last,), (math.prod(walk.shape[:2]), walk.shape[2])))
            walk.pool(draw(st.booleans()), axis=0, keep=draw(st.booleans()))
        case "sum" | "max" as kind:
            keep = draw(st.booleans())
            walk.pool(kind == "sum", axis=0, keep=keep)
            walk.pool(kind == "sum", axis=1 if keep else 0, keep=keep)
        case "mixed":
            walk.quantize()
            walk.add_step(Transpose((walk.last,), (2, 0, 1)))
            walk.pool(draw(st.booleans()), axis=1, keep=False)
    walk.go(("linear", "relu", "quantize"), draw(st.integers(0, 2)))
    return IntegerNetwork(tuple(walk.steps))


class _Walk:
    """Operations in a row, each drawn so that it fits the last; ranges keep every width below `LIMIT_BITS`."""

    LIMIT_BITS = 14
    LIMIT_TABLE_BITS = 8
    LIMIT_ELEMENTS = 64

    def __init__(self, draw, max_bits, max_width, roundings, overflows, per_channel, allow_zero_width):
        self.draw, self.max_bits, self.max_width = draw, max_bits, max_width
        self.roundings, self.overflows = st.sampled_from(list(roundings)), st.sampled_from(list(overflows))
        self.per_channel, self.allow_zero_width = per_channel, allow_zero_width
        self.steps: list[Operation] = []
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    @property
    def last(self) -> int:
        return len(self.steps) - 1

    @property
    def ranges(self):
        return IntegerNetwork(tuple(self.steps)).ranges

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ranges[-1].shape

    def add_step(self, operation: Operation) -> None:
        self.steps.append(operation)

    def formats(self, shape, fraction_bits=FRACTION_BITS) -> tuple[FixedPoint, ...]:
        count = shape[-1] if self.per_channel and self.draw(st.booleans()) else 1
        one = formats(self.max_bits, fraction_bits, self.allow_zero_width)
        return tuple(self.draw(one) for _ in range(count))

    def input(self, shape) -> None:
        self.add_step(Input((), shape, self.formats(shape), self.draw(self.roundings)))

    def go(self, names, count) -> None:
        for _ in range(count if names else 0):
            if self.ranges[-1].format().width > self.LIMIT_BITS:
                self.quantize()
            getattr(self, self.draw(st.sampled_from(names)).lower())()

    def quantize(self) -> None:
        now = self.ranges[-1].fraction_bits
        formats = self.formats(self.shape, st.integers(now - 6, now + 2))
        self.add_step(Quantize((self.last,), formats, self.draw(self.roundings), self.draw(self.overflows)))

    def _constants(self, shape) -> np.ndarray:
        bits = self.draw(st.integers(1, 5))
        values = self.random.integers(-(1 << bits), 1 << bits, shape)
        return values * (self.random.random(shape) < self.draw(st.sampled_from([0.0, 0.4, 1.0, 1.0])))

    def linear(self) -> None:
        outputs = self.draw(st.integers(1, self.max_width))
        if math.prod(self.shape[:-1]) * outputs > self.LIMIT_ELEMENTS:
            outputs = 1
        weight, bias = self._constants((self.shape[-1], outputs)), self._constants((outputs,))
        self.add_step(Linear((self.last,), weight, bias, *self._grids()))

    def _grids(self) -> tuple[int, int]:
        return self.draw(st.integers(-1, 5)), self.ranges[-1].fraction_bits + self.draw(st.integers(-3, 6))

    def affine(self) -> None:
        axis = self.draw(st.integers(0, len(self.shape) - 1))
        shape = (self.shape[axis], *[1] * (len(self.shape) - 1 - axis))
        self.add_step(Affine((self.last,), self._constants(shape), self._constants(shape), *self._grids()))

    def relu(self) -> None:
        self.add_step(Relu((self.last,)))

    def leakyrelu(self) -> None:
        self.add_step(LeakyRelu((self.last,), self.draw(st.integers(1, 5))))

    def table(self) -> None:
        if self.ranges[-1].format().width > self.LIMIT_TABLE_BITS:
            self.quantize()
        bounds = self.ranges[-1]
        low, high = int(bounds.low.min()), int(bounds.high.max())
        if high - low < 1 << (self.LIMIT_TABLE_BITS + 2):
            before, after = self.draw(st.integers(0, 3)), self.draw(st.integers(0, 3))
            values = self._constants(high - low + 1 + before + after)
            self.add_step(Table((self.last,), values, low - before, self.draw(st.integers(-1, 6))))

    def pool(self, is_sum, axis, keep) -> None:
        if is_sum:
            self.add_step(Sum((self.last,), axis, keep, self.draw(st.integers(0, 3))))
        else:
            self.add_step(Max((self.last,), axis, keep))

    def sum(self, is_sum=True) -> None:
        keep = len(self.shape) == 1 or self.draw(st.booleans())
        self.pool(is_sum, self.draw(st.integers(0, len(self.shape) - 1)), keep)

    def max(self) -> None:
        self.sum(is_sum=False)

    def add(self) -> None:
        pair = self._pair(_broadcasts, 24)
        if pair and abs(self.ranges[pair[0]].fraction_bits - self.ranges[pair[1]].fraction_bits) < 16:
            self.add_step(Add(pair))

    def multiply(self) -> None:
        pair = self._pair(_broadcasts, 12)
        if pair:
            self.add_step(Multiply(pair))

    def matmul(self) -> None:
        if len(self.shape) < 2:
            return
        axes = (*range(len(self.shape) - 2), len(self.shape) - 1, len(self.shape) - 2)
        self.add_step(Transpose((self.last,), axes))
        pair = self._pair(_multiplies, 9)
        if pair:
            self.add_step(MatMul(pair))

    def _pair(self, fits, max_width) -> tuple[int, int] | None:
        """The last result and one that fits it, in either order, both of them narrow enough."""
        narrow = [i for i, bounds in enumerate(self.ranges) if bounds.format().width <= max_width]
        pairs = [(i, self.last) for i in narrow] + [(self.last, i) for i in narrow]
        shapes = [bounds.shape for bounds in self.ranges]
        fitting = [(i, j) for i, j in pairs if self.last in narrow and fits(shapes[i], shapes[j])]
        return self.draw(st.sampled_from(fitting)) if fitting else None

    def reshape(self) -> None:
        elements = math.prod(self.shape)
        first = self.draw(st.sampled_from([n for n in range(1, elements + 1) if elements % n == 0]))
        shape = self.draw(st.sampled_from([(elements,), (first, elements // first)]))
        self.add_step(Reshape((self.last,), shape))

    def transpose(self) -> None:
        self.add_step(Transpose((self.last,), tuple(self.draw(st.permutations(range(len(self.shape)))))))

    def patches(self) -> None:
        if len(self.shape) != 3:
            return
        padding, stride = (tuple(self.draw(st.integers(low, low + 1)) for _ in range(2)) for low in (0, 1))
        limits = [min(3, size + 2 * zeros) for size, zeros in zip(self.shape[:2], padding, strict=True)]
        kernel = tuple(self.draw(st.integers(1, limit)) for limit in limits)
        patches = Patches((self.last,), kernel, padding, stride)
        if math.prod(IntegerNetwork((*self.steps, patches)).output_shape) <= 4 * self.LIMIT_ELEMENTS:
            self.add_step(patches)


class _ImageWalk(_Walk):
    """A walk over images that seldom ends in constants: few weights are zero, and Quantize keeps the leading bits."""

    LIMIT_ELEMENTS = 256

    def _constants(self, shape) -> np.ndarray:
        return self.random.integers(1, 8, shape) * self.random.choice([-1, 1, 1, 0], shape)

    def quantize(self) -> None:
        now = self.ranges[-1]
        lost = now.format().width - self.max_bits
        fractions = st.integers(now.fraction_bits - max(0, lost), now.fraction_bits - max(0, lost) + 2)
        formats = self.formats(self.shape, fractions)
        self.add_step(Quantize((self.last,), formats, self.draw(self.roundings), self.draw(self.overflows)))

    def window(self) -> None:
        """Draw windows of which there is at most one for each pixel."""
        kernel = tuple(self.draw(st.integers(1, min(3, size))) for size in self.shape[:2])
        padding = tuple(self.draw(st.integers(0, (side - 1) // 2)) for side in kernel)
        stride = tuple(self.draw(st.sampled_from([1, 1, 2])) for _ in range(2))
        self.add_step(Patches((self.last,), kernel, padding, stride))

    def _beside(self, widest) -> int | None:
        """Draw a step of the same positions, the last one included."""
        ranges = self.ranges
        equal = [
            i
            for i in range(self.first_alike, len(ranges))
            if ranges[i].shape == ranges[-1].shape and ranges[i].format().width < widest
        ]
        return self.draw(st.sampled_from(equal)) if equal else None

    def _is_near(self, other: int) -> bool:
        """Return whether the sum of the last step and another one stays narrow enough."""
        return abs(self.ranges[other].fraction_bits - self.ranges[-1].fraction_bits) < 16

    @property
    def first_alike(self) -> int:
        """Number of the first step behind which every convolution has had a window around each pixel."""
        moved = [
            i
            for i, step in enumerate(self.steps)
            if isinstance(step, Patches)
            and (step.stride != (1, 1) or step.kernel != tuple(2 * zeros + 1 for zeros in step.padding))
        ]
        return moved[-1] if moved else 0

    def residual(self) -> None:
        other = self._beside(16)
        if other is not None and self._is_near(other):
            self.add_step(Add((self.last, other)))

    def product(self) -> None:
        other = self._beside(6)
        if other is not None and self.ranges[-1].format().width < 8:
            self.add_step(Multiply((self.last, other)))

    def mix(self, kind: str) -> None:
        """Let every pixel depend on all of them, by the products of activations."""
        image, entry = self.shape, self.last
        if kind == "squeeze":
            self.pool(self.draw(st.booleans()), axis=0, keep=True)
            self.pool(isinstance(self.steps[-1], Sum), axis=1, keep=True)
            factor, entry = self.narrow(self.last), self.narrow(entry)
            self.add_step(Multiply(tuple(self.draw(st.permutations([factor, entry])))))
            return
        self.narrow(entry)
        self.add_step(Reshape((self.last,), (math.prod(image[:2]), image[2])))
        row, inner = self.last, self.draw(st.integers(1, 2))
        query, key, value = (self.project(row, inner) for _ in range(3))
        self.add_step(Transpose((key,), (1, 0)))
        self.add_step(MatMul((query, self.narrow(self.last) if self.draw(st.booleans()) else self.last)))
        weights = self.softmax() if self.draw(st.booleans()) else self.narrow(self.last)
        if kind == "attention":
            self.add_step(MatMul((weights, value)))
        else:
            self.add_step(Transpose((value,), (1, 0)))
            turned = self.last
            self.add_step(Transpose((weights,), (1, 0)))
            self.add_step(MatMul((turned, self.last)))
            self.add_step(Transpose((self.last,), (1, 0)))
        self.project(self.narrow(self.last), image[2])
        if self.draw(st.booleans()) and self._is_near(row):
            self.add_step(Add((self.last, row)))
        self.add_step(Reshape((self.last,), image))

    def narrow(self, source: int) -> int:
        """Add a quantization of a step that keeps its leading bits, if it is wide, and return which step has few."""
        now = self.ranges[source].format()
        if now.width <= self.max_bits:
            return source
        kept = FixedPoint(self.max_bits, now.integer_bits - self.draw(st.integers(0, 1)), now.is_signed)
        self.add_step(Quantize((source,), (kept,), self.draw(self.roundings), self.draw(self.overflows)))
        return self.last

    def project(self, source: int, outputs: int) -> int:
        weight = self._constants((self.ranges[source].shape[-1], outputs)) | 1
        grid = self.ranges[source].fraction_bits
        self.add_step(Linear((source,), weight, self._constants((outputs,)), self.draw(st.integers(0, 3)), grid))
        return self.narrow(self.last)

    def softmax(self) -> int:
        """Add exp(x - max) by table, its sum, the inverse of the sum by table, and their product, of few bits each."""
        scores = self.narrow(self.last)
        self.pool(False, axis=1, keep=True)
        highest, none = self.last, np.zeros(1, dtype=np.int64)
        self.add_step(Affine((scores,), none - 1, none, 0, self.ranges[scores].fraction_bits))
        self.add_step(Add((highest, self.last)))
        self.add_step(Relu((self.last,)))
        entries = 1 + int(self.ranges[-1].high.max())
        self.add_step(Table((self.last,), 7 >> np.arange(entries).clip(0, 8), 0, 3))
        exponential = self.last
        self.pool(True, axis=1, keep=True)
        self.narrow(self.last)
        bounds = self.ranges[-1]
        low, high = int(bounds.low.min()), int(bounds.high.max())
        self.add_step(Table((self.last,), 63 // np.arange(low, high + 1).clip(1), low, 6))
        self.add_step(Multiply((exponential, self.last)))
        return self.narrow(self.last)

    def scale(self) -> None:
        shape = (self.shape[-1],)
        self.add_step(Affine((self.last,), self._constants(shape), self._constants(shape), *self._grids()))


def _broadcasts(a, b) -> bool:
    if len(a) != len(b) or any(m != n and 1 not in (m, n) for m, n in zip(a, b, strict=True)):
        return False
    return math.prod(map(max, zip(a, b, strict=True))) <= _Walk.LIMIT_ELEMENTS * 4


def _multiplies(a, b) -> bool:
    if len(a) != len(b) or a[-1] != b[-2] or not _broadcasts(a[:-2], b[:-2]):
        return False
    return math.prod(map(max, zip(a[:-2], b[:-2], strict=True))) * a[-2] * a[-1] * b[-1] <= _Walk.LIMIT_ELEMENTS


@st.composite
def search_spaces(draw, depth: int = 2):
    """A small hierarchical search space of dense blocks: choices in fields, in place of blocks, and repetitions."""

    def some(options, low=1):
        return tuple(draw(st.lists(st.sampled_from(options), min_size=low, max_size=3, unique=True)))

    def dense():
        width = Choice(some([1, 2, 3, 4]), is_ordered=draw(st.booleans()))
        return Dense(width, Choice(some(["relu", "identity", "leaky_relu"])) if draw(st.booleans()) else "relu")

    def item(level):
        kind = draw(st.sampled_from(["dense", "choice", "repeat"] if level else ["dense"]))
        if kind == "repeat":
            return Repeat(item(0), tuple(sorted(some([0, 1, 2, 3]))))
        if kind == "choice":
            absent = (None,) if draw(st.booleans()) else ()
            return Choice((*absent, *(item(level - 1) for _ in range(draw(st.integers(1, 2))))))
        return dense()

    return SearchSpace((draw(st.integers(1, 3)),), tuple(item(depth) for _ in range(draw(st.integers(1, 2)))))


@st.composite
def architectures(draw, is_buildable: bool = True, outputs: int = 3):
    """A small architecture of the platform's blocks, on a row, a set or an image; float-only choices on request."""
    tables = ["gelu", "leaky_relu_0.01", "sigmoid", "tanh"]
    activation = st.sampled_from(["relu", "relu", "leaky_relu", "leaky_relu", "identity", *tables])
    norm = st.sampled_from(["none", "batch"] + ([] if is_buildable else ["layer"]))
    width = st.integers(1, 6)
    kinds = {"activation": draw(activation), "norm": draw(norm)}
    match draw(st.sampled_from(["dense", "deep_sets", "interaction", "mixer", "conv", "conv1d", "attention"])):
        case "dense":
            shape, body = (draw(st.integers(1, 8)),), [Dense(draw(width), **kinds)]
        case "deep_sets":
            shape = (draw(st.integers(2, 8)), draw(st.integers(1, 3)))
            widths = tuple(draw(st.lists(width, min_size=1, max_size=2)))
            aggregation = draw(st.sampled_from(["mean", "max", "sum"]))
            axis = draw(st.sampled_from([-1, 0]))
            body = [DeepSets(widths, kinds["activation"], kinds["norm"], norm_axis=axis, aggregation=aggregation)]
        case "interaction":
            shape = (draw(st.integers(2, 6)), 3)
            body = [LinearInteraction(draw(width), draw(st.sampled_from(["mean", "ordered"])), **kinds)]
        case "mixer":
            shape, body = (4, 3), [MlpMixer(draw(width), draw(width), **kinds)]
        case "conv":
            shape = (draw(st.integers(5, 7)), 6, draw(st.integers(1, 2)))
            padding, stride = draw(st.sampled_from(["same", "valid"])), draw(st.integers(1, 2))
            body = [Conv2d((draw(width), draw(width)), draw(st.sampled_from([1, 3])), (1, stride), padding, **kinds)]
            if padding == "same" and draw(st.booleans()):
                body.append(Pool(2, draw(st.sampled_from(["max", "mean"])), draw(st.integers(1, 2))))
            if draw(st.booleans()):
                body.append(SeparableConv2d(draw(width), 3, stride, "same", **kinds))
        case "conv1d":
            shape = (draw(st.integers(6, 12)), draw(st.integers(1, 3)))
            padding, stride = draw(st.sampled_from(["same", "valid"])), draw(st.integers(1, 2))
            body = [Conv1d((draw(width), draw(width)), draw(st.sampled_from([1, 3])), (stride, 1), padding, **kinds)]
            if padding == "same" and draw(st.booleans()):
                body.append(Pool(2, draw(st.sampled_from(["max", "mean"])), draw(st.integers(1, 2))))
            if draw(st.booleans()):
                body.append(SeparableConv1d(draw(width), 3, stride, "same", **kinds))
        case _:
            kind, shape = draw(st.sampled_from(["learned", "softmax"])), (3, 3, 2)
            body = [ConvAttention(draw(width), kind, draw(st.integers(1, 2)), kinds["activation"])]
    head = [Dense(draw(width), draw(activation), draw(norm)) for _ in range(draw(st.integers(0, 1)))]
    last = draw(st.one_of(activation, st.just("softmax")))
    return Architecture(shape, (*body, *head, Dense(outputs, last, draw(norm))))


def trained_like(architecture: Architecture, seed: int = 0, rows: int = 64):
    """A float network whose norms are not trivial, and inputs (rows, *input_shape) that its batch norms have seen."""
    import torch

    from codesign import network

    module = network.build(architecture, seed)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, *architecture.input_shape, generator=generator)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim == 1 and "bias" not in name:  # scales of norms
                value.copy_(1 + 0.3 * torch.randn(value.shape, generator=generator))
        for _ in range(20):
            module(inputs)
    return module.eval(), inputs.numpy()
