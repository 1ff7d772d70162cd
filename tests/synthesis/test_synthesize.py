"""From integers to a checked design on real tools, and what is refused before anything is built."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.backends import verilator, yosys
from codesign.core import plugins
from codesign.core.build import Resources
from codesign.core.errors import ToolError, UnsupportedError
from codesign.core.fixed_point import FixedPoint, Rounding
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Max, Quantize, Relu
from codesign.synthesis.evidence import View
from codesign.synthesis.synthesize import require_fit, synthesize
from codesign.synthesis.vectors import golden_vectors

BOARD = plugins.load_board("pynq_z2")


def network():
    rng = np.random.default_rng(3)
    return IntegerNetwork(
        (
            Input((), (3, 2), (FixedPoint(5, 2), FixedPoint(4, 3))),
            Linear((0,), rng.integers(-7, 8, (2, 3)), rng.integers(-9, 9, 3), 3, 5),
            Relu((1,)),
            Quantize((2,), (FixedPoint(5, 2, is_signed=False),), Rounding.HALF_UP),
            Max((3,), axis=0),
            Linear((4,), rng.integers(-7, 8, (3, 2)), rng.integers(-9, 9, 2), 3, 5),
        )
    )


def test_a_small_network_goes_all_the_way_and_is_not_built_twice(tmp_path):
    net, steps = network(), []
    golden = golden_vectors(net)
    emulator = View("emulator", "numpy", lambda n, x, _: n.emulate(x))
    result = synthesize(
        net, BOARD, 0.0, tmp_path, golden, name="small net", more_views=[emulator], progress=steps.append
    )
    assert result.skipped == ()
    assert result.is_exact
    assert [e.view for e in result.evidence] == ["emulator", "rtl", "netlist"]
    assert all(e.vectors == len(golden) >= 1000 for e in result.evidence)
    assert [r.level for r in result.resources] == ["estimate", "synthesis"]
    assert result.timing.is_simulated
    assert result.timing.ii == 1
    assert result.timing.clock_ns == BOARD.clock_ns
    assert result.timing.latency_ns == result.timing.latency_cycles * BOARD.clock_ns
    assert "rtl/small_net_axis.v" in result.files
    assert "reports/yosys_xc7.json" in result.files
    assert steps[-1] == f"netlist: {len(golden)} vectors"

    built = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("Vtop")}
    assert len(built) == 2
    again = synthesize(net, BOARD, 0.0, tmp_path, golden, name="small net", more_views=[])
    assert again.is_exact
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("Vtop")} == built


def test_without_tools_the_rest_is_done_and_what_is_missing_is_said(monkeypatch, tmp_path):
    def missing():
        raise ToolError("There is no such tool.")

    monkeypatch.setattr(verilator, "find_tool", missing)
    monkeypatch.setattr(yosys, "find_tool", missing)
    net = network()
    emulator = View("emulator", "numpy", lambda n, x, _: n.emulate(x))
    result = synthesize(net, BOARD, 0.0, tmp_path, golden_vectors(net), more_views=[emulator])
    assert result.skipped == ("There is no such tool.", "There is no such tool.")
    assert [e.view for e in result.evidence] == ["emulator"]
    assert not result.timing.is_simulated


def test_a_board_too_small_is_refused_before_anything_is_built(tmp_path):
    net = network()
    board = replace(BOARD, lut=100)
    with pytest.raises(
        UnsupportedError, match=r"^The design needs \d+ LUT \(estimate\), \d+ more than the 100 of TUL PYNQ-Z2\. "
    ):
        synthesize(net, board, 0.0, tmp_path, golden_vectors(net))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            Resources("estimate", "da4ml", lut=60_000.0, ff=10.0),
            "The design needs 60,000 LUT (estimate), 6,800 more than the 53,200 of TUL PYNQ-Z2. "
            "Use fewer bits, more pruning or a larger board.",
        ),
        (
            Resources("synthesis", "Yosys", lut=1.0, bram=5_058.0),
            "The design needs 5,058 kbit of BRAM (synthesis), 18 more than the 5,040 of TUL PYNQ-Z2. "
            "Use fewer bits, more pruning or a larger board.",
        ),
    ],
)
def test_what_breaks_and_by_how_much_is_named(resources, message):
    with pytest.raises(UnsupportedError) as error:
        require_fit(resources, BOARD)
    assert str(error.value) == message


def test_a_design_that_just_fits_is_accepted():
    require_fit(Resources("estimate", "da4ml", lut=float(BOARD.lut), ff=None, dsp=0.0), BOARD)
