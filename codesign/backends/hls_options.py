"""What kind of hls4ml project is built: whose tool, arrays or streams, and how dense layers multiply."""

from __future__ import annotations

from typing import NamedTuple

from codesign.backends import _hls4ml_graph as layout
from codesign.core.errors import InvalidValueError, UnsupportedError
from codesign.core.integer_network import IntegerNetwork

BACKENDS = ("Vitis", "Vivado", "Catapult")
IOS = ("io_parallel", "io_stream")
STRATEGIES = ("latency", "resource", "distributed_arithmetic")
# What hls4ml has, and why it is not built here.
REFUSED = {
    "oneAPI": "its code is SYCL, which Intel's icpx compiles with headers that hls4ml does not ship, so that no C "
    "simulation by g++ could prove it exact",
}


class HlsOptions(NamedTuple):
    """How a project is built.

    Attributes:
        backend: "Vitis", "Vivado" for releases before 2020.1, or "Catapult".
        io: "io_parallel": whole tensors go in and come out; "io_stream": beat after beat, in a dataflow of steps;
            "auto", until `resolve` has chosen: as the RTL is laid out.
        strategy: Of dense layers: "latency" unrolls them; "resource" uses each multiplier `reuse_factor` times;
            "distributed_arithmetic" builds adder graphs by da4ml.
        reuse_factor: 1 but with "resource"; hls4ml takes the nearest that divides the work of a layer.
    """

    backend: str = "Vitis"
    io: str = "io_parallel"
    strategy: str = "latency"
    reuse_factor: int = 1


DEFAULTS = HlsOptions()


def check(options: HlsOptions) -> None:
    """Raise an error if an option is not allowed, or if hls4ml has it but no C simulation proves it here.

    Raises:
        InvalidValueError: A word or the reuse factor is not allowed.
        UnsupportedError: hls4ml, or this view of it, does not build what is asked for.
    """
    for field, allowed in (("backend", BACKENDS), ("io", (*IOS, "auto")), ("strategy", STRATEGIES)):
        value = getattr(options, field)
        if value in REFUSED:
            raise UnsupportedError(
                f"The hls4ml view does not build {field} {value!r}: {REFUSED[value]}. Use {' or '.join(allowed)}."
            )
        if value not in allowed:
            raise InvalidValueError(f"The {field} of an hls4ml project is {value!r}; allowed: {', '.join(allowed)}.")
    if options.reuse_factor < 1 or (options.strategy != "resource" and options.reuse_factor > 1):
        raise InvalidValueError(
            f"The reuse factor is {options.reuse_factor} with strategy {options.strategy!r}; allowed: 1, or more with "
            "resource."
        )
    if options.backend == "Catapult" and options.strategy == "distributed_arithmetic":
        raise UnsupportedError(
            "hls4ml has no strategy 'distributed_arithmetic' for Catapult. Use latency or resource, or another backend."
        )


def resolve(options: HlsOptions, network: IntegerNetwork, dataflow: str) -> HlsOptions:
    """Return the options with "auto" replaced: a network whose RTL streams has a project of streams, if it can.

    Args:
        options: As asked for.
        network: What is built.
        dataflow: "parallel" or "streaming", of its RTL.
    """
    if options.io != "auto":
        return options
    return options._replace(io="io_stream" if dataflow == "streaming" and _streams(network) else "io_parallel")


def _streams(network: IntegerNetwork) -> bool:
    try:
        layout.streamed(network)
    except UnsupportedError:
        return False
    return True
