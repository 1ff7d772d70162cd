"""Each level is reached on its own: what a tool cannot do is said, and costs no other level."""

import json
from pathlib import Path

import numpy as np
import pytest

from codesign.backends import nextpnr, vitis, vivado, yosys
from codesign.backends.dataflow import Dataflow
from codesign.backends.hls_options import HlsOptions
from codesign.core import plugins
from codesign.core.build import BuildPlan, Resources
from codesign.core.errors import ToolError
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Relu
from codesign.core.run import Tool
from codesign.synthesis.levels import estimates, measure, measure_project

FAKES = Path(__file__).parent.parent / "fake_tools"
RTL = BuildPlan("adder_axis", {"adder_axis.v": "module adder_axis; endmodule"})
FAKE_YOSYS = """#!/bin/sh
echo '{"design": {"num_cells_by_type": {"LUT4": 40, "TRELLIS_FF": 9}}}' > stat.json
echo '{}' > cells.json
echo 'module adder_axis; endmodule // netlist' > netlist.v
"""
FAKE_NEXTPNR = """#!/bin/sh
cat > report.json <<'END'
{"fmax": {"aclk": {"achieved": 99.5}}, "utilization": {"TRELLIS_COMB": {"used": 44}, "TRELLIS_FF": {"used": 9},
 "MULT18X18D": {"used": 0}, "DP16KD": {"used": 0}}}
END
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that lets a backend find a script as its tool."""

    def install(backend, script):
        program = tmp_path / backend.__name__.rsplit(".", 1)[-1]
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setattr(backend, "find_tool", lambda: Tool((str(program),), f"{program.name} 1.0"))

    return install


def estimate(lut=100.0):
    return Resources("estimate", "adder graph", lut=lut)


def measured(board, folder, **options):
    return list(measure(RTL, plugins.load_board(board), 20.0, options.pop("of", estimate()), folder, **options))


@pytest.mark.parametrize(
    ("board", "kind", "names"),
    [
        ("vu13p", "parallel", {"hls_estimate.json", "calibrated_estimate.json"}),
        ("vu13p", "streaming", {"hls_estimate.json"}),
        ("pynq_z2", "parallel", {"hls_estimate.json", "calibrated_estimate.json"}),
    ],
)
def test_estimates_of_both_views_are_reports(board, kind, names):
    network = IntegerNetwork((
        Input((), (2,), (FixedPoint(5, 2),)), Linear((0,), np.array([[3], [-5]]), np.array([1]), 3, 4),
    ))  # fmt: skip
    made = estimates(network, plugins.load_board(board), 5.0, Dataflow(kind, 5))
    reports = {name: json.loads(text) for name, text in made.items()}
    assert set(reports) == names
    assert reports["hls_estimate.json"]["total"]["lut"] == [20, 10, 40]  # four digits of five bits
    if "calibrated_estimate.json" in reports:
        assert reports["calibrated_estimate.json"]["resources"]["level"] == "estimate"


def test_a_project_without_an_estimate_says_why():
    network = IntegerNetwork((Input((), (2,), (FixedPoint(5, 2),)), Relu((0,))))
    made = estimates(network, plugins.load_board("vu13p"), 5.0, Dataflow("streaming", 5), HlsOptions("Catapult"))
    assert json.loads(made["hls_estimate.json"]) == {
        "tool": "rules for hls4ml, no vendor tool",
        "level": "estimate",
        "skipped": "The rules know the tools of AMD; a project for Catapult has no estimate.",
    }


def test_an_ecp5_design_is_synthesized_and_routed(install, tmp_path):
    install(yosys, FAKE_YOSYS)
    install(nextpnr, FAKE_NEXTPNR)
    said = []
    synthesis, routed = measured("ulx3s_85f", tmp_path / "work", with_netlist=True, progress=said.append)
    assert synthesis.resources == (Resources("synthesis", "yosys 1.0", lut=40, ff=9, dsp=0, bram=0),)
    assert list(synthesis.reports) == ["yosys_ecp5.json"]
    assert synthesis.netlist.files == {"netlist.v": "module adder_axis; endmodule // netlist\n"}
    assert routed.resources == (Resources("routed", "nextpnr 1.0", lut=44, ff=9, dsp=0, bram=0, fmax_mhz=99.5),)
    assert list(routed.reports) == ["nextpnr.json"]
    assert (synthesis.skipped, routed.skipped) == ("", "")
    assert said == ["Yosys: about 100 LUTs", "nextpnr: 40 LUTs"]


def test_other_families_are_synthesized(install, tmp_path):
    install(yosys, FAKE_YOSYS)
    (synthesis,) = measured("vu13p", tmp_path / "work")
    assert synthesis.resources[0] == Resources("synthesis", "yosys 1.0", lut=40, ff=0, dsp=0, bram=0)
    assert synthesis.netlist is None


def test_what_would_take_hours_is_left_out_and_said(install, tmp_path):
    install(yosys, FAKE_YOSYS)
    (neither,) = measured("ulx3s_85f", tmp_path / "a", of=estimate(60_001.0))
    assert neither.skipped == "Yosys was not run: 60,001 LUTs by the estimate, limit 60,000."
    synthesis, unrouted = measured("ulx3s_85f", tmp_path / "b", of=estimate(10_001.0))
    assert synthesis.resources
    assert unrouted.skipped == "nextpnr was not run: 10,001 LUTs by the estimate, limit 10,000."


def test_a_failing_router_leaves_the_synthesis(install, tmp_path):
    install(yosys, FAKE_YOSYS)
    install(nextpnr, "#!/bin/sh\necho 'ERROR: out of bels'\nexit 1\n")
    synthesis, routed = measured("ulx3s_85f", tmp_path / "work")
    assert synthesis.resources
    assert routed.resources == ()
    assert routed.skipped.startswith("nextpnr failed with exit code 1: ERROR: out of bels (")


def test_where_vivado_is_installed_its_two_levels_follow(install, monkeypatch, tmp_path):
    install(yosys, FAKE_YOSYS)
    monkeypatch.setattr(vivado, "find_tool", lambda: Tool((str(FAKES / "vivado"),), "Vivado 2023.2"))
    _, by_vivado = measured("vu13p", tmp_path / "work")
    assert [r.level for r in by_vivado.resources] == ["synthesis", "routed"]
    assert sorted(by_vivado.reports) == ["vivado_routed.rpt", "vivado_synthesis.rpt", "vivado_timing.rpt"]
    monkeypatch.setenv("FAKE_TOOL", "fail")
    _, failed = measured("kv260", tmp_path / "other")
    assert failed.skipped.startswith("vivado failed with exit code 1: ERROR: [Place 30-640]")


def test_c_synthesis_is_a_report_where_vitis_is_installed(monkeypatch, tmp_path):
    report = "network_prj/solution1/syn/report/network_csynth.xml"
    project = BuildPlan("network", {"project.tcl": 'set project_name "network"\n'}, outputs=(report,))
    monkeypatch.setattr(vitis, "find_tool", lambda: Tool((str(FAKES / "vitis-run"),), "Vitis HLS 2024.2"))
    (level,) = measure_project(lambda: project, tmp_path)
    assert (level.resources, level.skipped) == ((), "")
    assert list(level.reports) == ["csynth.xml"]
    monkeypatch.setenv("FAKE_TOOL", "renamed")
    (level,) = measure_project(lambda: project, tmp_path / "other")
    assert level.skipped.startswith("The csynth report cannot be read (no AreaEstimates/Resources/LUT)")


def test_vendor_tools_that_are_not_installed_are_not_worth_a_word(install, monkeypatch, tmp_path):
    def missing():
        raise ToolError("There is no such tool.")

    install(yosys, FAKE_YOSYS)
    monkeypatch.setattr(vivado, "find_tool", missing)
    monkeypatch.setattr(vitis, "find_tool", missing)
    assert len(measured("vu13p", tmp_path / "work")) == 1
    assert not list(measure_project(lambda: RTL, tmp_path))


def test_without_yosys_there_is_nothing_to_route(monkeypatch, tmp_path):
    def missing():
        raise ToolError("There is no such tool.")

    monkeypatch.setattr(yosys, "find_tool", missing)
    (level,) = measured("ulx3s_85f", tmp_path / "work")
    assert level.skipped == "There is no such tool."
