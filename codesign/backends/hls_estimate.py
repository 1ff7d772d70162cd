"""What an hls4ml project will take, without a vendor's tool: cycles, interval and resources by a rule for each layer.

An estimate of another design than that of the RTL view: it is never compared with it or ranked beside it. LUTs are
those after logic synthesis; C synthesis reported 1.7 to 11 times as many for real dense layers. No rule is fitted to a
result of a tool, and every number has an interval. Where nothing better is known, that is half to twice the number.

In a project of streams (io_stream) every layer is built for one block and takes as many turns as there are blocks, and
what lies between two layers is a FIFO of a whole tensor, as hls4ml makes it. Projects for Catapult are not covered.

Sources: hls4ml's documentation, "Concepts" (reuse factor, strategies, io types); Duarte et al., arXiv 1804.06913,
sections 2 and 3 (parallelization, latency); Coelho et al., arXiv 2006.10159 (below 10 bits multiplications take LUTs,
not DSPs); Aarrestad et al., arXiv 2101.05108, section 4 (streams, line buffers: an interval of one pixel a cycle, times
the reuse factor); AMD UG474 (a LUT as a shift register of 32 bits).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from codesign.backends import _hls4ml_graph as layout
from codesign.backends._hls_adders import DSP_BITS, NOTHING, Adders, Bounded, adders_of, around
from codesign.backends.hls_options import DEFAULTS, HlsOptions, check
from codesign.core.errors import UnsupportedError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Max, Range

TOOL = "rules for hls4ml, no vendor tool"
BLOCK_RAM_WORD_BITS = 36  # 18 kbit, 512 words deep
CSYNTH_LUT = 1.7, 11.0  # how many times as many LUTs C synthesis reports
ADDER_NS = 0.7  # one more addition in a stage of an UltraScale+ part, as in the RTL view's rule
UNCERTAINTY = 0.27  # share of the clock period that Vitis HLS keeps in reserve by default
SHIFT_REGISTER_BITS = 32  # in a LUT
TURN_CYCLES = 2  # a layer with reused multipliers begins its next block this long after its last multiplication


@dataclass(frozen=True)
class LayerEstimate:
    """One layer of a project.

    Attributes:
        cycles: Clock cycles from its input to its output; of a stream, from its first beat in to its first beat out.
        ii: Initiation interval in clock cycles.
        bram: Block RAM in kbit.
    """

    name: str
    cycles: Bounded = NOTHING
    ii: int = 1
    lut: Bounded = NOTHING
    ff: Bounded = NOTHING
    dsp: Bounded = NOTHING
    bram: Bounded = NOTHING


@dataclass(frozen=True)
class HlsEstimate:
    """A whole project: layers follow one another, so cycles and resources add up, and the slowest sets the interval."""

    layers: tuple[LayerEstimate, ...]
    options: HlsOptions
    clock_ns: float

    def total(self, field: str) -> Bounded:
        """Return the sum of a field over all layers; the beats that follow the first one out count as cycles too."""
        whole = sum((getattr(layer, field) for layer in self.layers), NOTHING)
        if field == "cycles" and self.options.io == "io_stream":
            whole += Bounded(self.ii, self.ii, self.ii)
        return whole

    @property
    def ii(self) -> int:
        """Initiation interval: the largest of all layers."""
        return max((layer.ii for layer in self.layers), default=1)

    @property
    def csynth_lut(self) -> tuple[float, float]:
        """In which interval the LUTs of a C synthesis report lie."""
        lut = self.total("lut")
        return CSYNTH_LUT[0] * lut.low, CSYNTH_LUT[1] * lut.high

    def report(self) -> dict[str, Any]:
        """Return everything as JSON-ready values: intervals as value, low, high."""
        fields = ("cycles", "lut", "ff", "dsp", "bram")
        return asdict(self) | {
            "options": self.options._asdict(),
            "tool": TOOL,
            "level": "estimate",
            "ii": self.ii,
            "csynth_lut": self.csynth_lut,
            "total": {field: self.total(field) for field in fields},
        }


def estimate(network: IntegerNetwork, clock_ns: float = 5.0, options: HlsOptions = DEFAULTS) -> HlsEstimate:
    """Return the estimate of the hls4ml project of a network.

    Args:
        network: The network.
        clock_ns: Clock period.
        options: Those of the project.

    Raises:
        InvalidValueError: An option is not allowed.
        UnsupportedError: The project is one for Catapult, or cannot be built.
    """
    check(options)
    if options.backend == "Catapult":
        raise UnsupportedError("The rules know the tools of AMD; a project for Catapult has no estimate.")
    is_stream = options.io == "io_stream"
    nodes = layout.streamed(network) if is_stream else layout.parallel(network)
    shapes = {node.index: node.shape for node in nodes}
    layers = []
    for node in nodes[1:]:
        layer = _block(
            f"step{node.index}_{type(network.operations[node.index]).__name__.lower()}", node, options, clock_ns
        )
        if is_stream:
            fifos = [(shapes[j], network.ranges[j]) for j in node.inputs]
            layers.append(_streamed(layer, node, shapes[node.index], fifos))
        else:
            copies = max(node.blocks)
            fields = {key: getattr(layer, key).times(copies) for key in ("lut", "ff", "dsp", "bram")}
            layers.append(replace(layer, **fields))
    return HlsEstimate(tuple(layers), options, clock_ns)


def _block(name: str, node: layout.Node, options: HlsOptions, clock_ns: float) -> LayerEstimate:
    """Return the hardware of a layer that takes one block."""
    operation, result, operands = node.operation, node.result, node.operands
    if isinstance(operation, Linear) and options.strategy == "resource":
        reuse_factor = nearest_reuse_factor(*operation.weight.shape, options.reuse_factor)
        return _reused(name, operation, result, operands[0], reuse_factor)
    if node.pattern == "fold":  # of the elements that a beat holds, each meets what came before it
        size = operands[0].low.size // node.blocks[0]
        adders = Adders(1, around(float(size * result.format().width * (1 + isinstance(operation, Max)))))
        held = operands[0].low.size // operands[0].shape[operation.axis]  # type: ignore[attr-defined]
        return _pipelined(name, adders, held * result.format().width, clock_ns)
    adders = adders_of(operation, result, *operands)
    if isinstance(operation, Linear) and options.strategy == "distributed_arithmetic":
        adders = adders._replace(lut=around(_graph_lut(operation, operands[0])), dsp=NOTHING)
    return _pipelined(name, adders, result.low.size * result.format().width, clock_ns)


def _streamed(
    block: LayerEstimate, node: layout.Node, beats: tuple[int, ...], inputs: list[tuple[tuple[int, ...], Range]]
) -> LayerEstimate:
    """Return a layer that takes block after block from FIFOs, each as deep as a tensor has beats.

    It gives its first beat after one block, or, if that is the whole tensor, after all beats have come.
    """
    turns = max(beats[0], *(shape[0] for shape, _ in inputs))
    fill = turns if max(node.blocks) == 1 or node.pattern == "fold" else 0
    memories, window = [(shape[1] * x.format().width, shape[0]) for shape, x in inputs], 0
    if node.image:
        patches, image = node.image
        (rows, columns), (pad_rows, pad_columns) = patches.kernel, patches.padding
        height, width, channels = image.shape
        line, pixel = width + 2 * pad_columns, channels * image.format().width
        turns = max(turns, (height + 2 * pad_rows) * line)
        fill = (rows - 1) * line + columns
        memories.append(((rows - 1) * pixel, line))
        window = rows * columns * pixel
    each = block.ii + TURN_CYCLES if block.ii > 1 and max(node.blocks) > 1 else 1
    lut = sum(bits * math.ceil(depth / SHIFT_REGISTER_BITS) for bits, depth in memories)
    bram = sum(18 * math.ceil(bits / BLOCK_RAM_WORD_BITS) * math.ceil(depth / 512) for bits, depth in memories)
    return replace(
        block,
        cycles=Bounded(block.cycles.value + fill, block.cycles.low, block.cycles.high + turns),
        ii=max(turns * each, block.ii),
        lut=block.lut + Bounded(lut, 0, 2 * lut),  # as shift registers, or none for those in block RAM
        ff=block.ff + Bounded(window, window, window),
        bram=block.bram + Bounded(0, 0, bram),
    )


def _graph_lut(operation: Linear, x: Range) -> float:
    """Return the cost of the adder graph of a dense layer, which hls4ml lets da4ml solve likewise."""
    from codesign.backends import da4ml

    if not operation.weight.any() or not x.format().width:
        return 0.0
    step = Linear((0,), operation.weight, operation.bias, operation.weight_fraction_bits, operation.bias_fraction_bits)
    layer = IntegerNetwork((Input((), (len(operation.weight),), (x.format(),)), step))
    lut = da4ml.estimate(layer)[0].lut
    assert lut is not None
    return lut


def _pipelined(name: str, adders: Adders, bits: int, clock_ns: float) -> LayerEstimate:
    """A layer whose operations all exist in hardware. `levels` additions follow one another on its longest path.

    At best all of them fit into one cycle, at worst each takes one. `bits` are kept in registers after each.
    """
    if not adders.levels:
        return LayerEstimate(name)
    in_a_cycle = max(1, int(clock_ns * (1 - UNCERTAINTY) / ADDER_NS))
    cycles = Bounded(math.ceil(adders.levels / in_a_cycle), 1, adders.levels)
    return LayerEstimate(
        name, cycles, lut=adders.lut, ff=Bounded(*(bits * number for number in cycles)), dsp=adders.dsp
    )


def nearest_reuse_factor(inputs: int, outputs: int, asked: int) -> int:
    """Return the reuse factor that hls4ml takes for a dense layer: one that divides the inputs, or whole outputs."""
    columns = [n for n in range(1, inputs + 1) if inputs % n == 0]
    allowed = [*columns, *(inputs * n for n in range(1, outputs + 1) if outputs % n == 0)]
    return min(allowed, key=lambda n: (abs(n - asked), n))


def _reused(name: str, operation: Linear, result: Range, x: Range, reuse_factor: int) -> LayerEstimate:
    """A dense layer of the resource strategy: interval = reuse factor, latency = reuse factor + 2, zero weights kept.

    Each of the multipliers is used `reuse_factor` times; their weights stand side by side in block RAM, or in LUTs as
    long as the reuse factor is small.
    """
    positions = result.low.size // operation.weight.shape[1]
    multipliers = math.ceil(operation.weight.size / reuse_factor) * positions
    weight_bits = int(np.abs(operation.weight).max(initial=0)).bit_length() + 1
    width = x.format().width
    is_dsp = max(width, weight_bits) >= DSP_BITS
    product, total = width * weight_bits, result.format().width
    lut = multipliers * (total + (0 if is_dsp else product))
    words = math.ceil(multipliers * weight_bits / BLOCK_RAM_WORD_BITS)
    bits = multipliers * (total + width)
    return LayerEstimate(
        name,
        Bounded(reuse_factor + 2, reuse_factor + 2, reuse_factor + 2),
        reuse_factor,
        lut=Bounded(lut, multipliers * total / 2, 2 * lut),
        ff=Bounded(bits, bits / 2, 2 * bits),
        dsp=Bounded(multipliers * is_dsp, 0, multipliers * is_dsp),
        bram=Bounded(18 * words * (reuse_factor > 1), 0, 18 * words),
    )
