"""Vivado and Vitis HLS: plans, and stand-ins that work, fail, hang, or write reports of another version.

The reports in tests/fake_tools/reports are modeled on the layout that AMD UG906 and UG1399 document. No vendor tool has
written them.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from codesign.backends import vitis, vivado
from codesign.core import plugins
from codesign.core.build import BuildPlan
from codesign.core.errors import InvalidValueError, ToolError
from codesign.core.run import run_plan

FAKES = Path(__file__).parent.parent / "fake_tools"
REPORTS = FAKES / "reports"
BOARD = plugins.load_board("vu13p")
RTL = BuildPlan(
    "counter_axis", {"core.v": "module core; endmodule", "counter_axis.v": "module counter_axis; endmodule"}
)
PROJECT = BuildPlan(
    "network",
    {"project.tcl": 'set project_name "network"\n', "build_prj.tcl": "open_project\n"},
    outputs=("network_prj/solution1/syn/report/network_csynth.xml",),
)


@pytest.fixture(autouse=True)
def fresh():
    """Forget what tools were found, before and after."""
    for backend in (vivado, vitis):
        backend.find_tool.cache_clear()
    yield
    for backend in (vivado, vitis):
        backend.find_tool.cache_clear()


@pytest.fixture
def fakes(monkeypatch):
    """Put the stand-ins on PATH and return a function that says what shall go wrong."""
    monkeypatch.setenv("PATH", f"{FAKES}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return lambda fault: monkeypatch.setenv("FAKE_TOOL", fault)


def run_vivado(folder, **changes):
    tool = vivado.find_tool()
    built = run_plan(replace(vivado.plan(RTL, BOARD, 5.0), **changes), folder, tool)
    return vivado.parse(*((built / name).read_text() for name in vivado.REPORTS), 5.0)


def run_vitis(folder, **changes):
    tool = vitis.find_tool()
    built = run_plan(replace(vitis.plan(PROJECT, tool), **changes), folder, tool)
    return vitis.parse((built / PROJECT.outputs[0]).read_text())


def test_the_script_is_what_vivado_shall_do():
    plan = vivado.plan(RTL, BOARD, 5.0)
    assert plan.files["build.tcl"] == (
        "read_verilog core.v\n"
        "read_verilog counter_axis.v\n"
        "read_xdc -mode out_of_context clock.xdc\n"
        "synth_design -mode out_of_context -top counter_axis -part xcvu13p-flga2577-2-e\n"
        "report_utilization -file synthesis.rpt\n"
        "opt_design\nplace_design\nphys_opt_design\nroute_design\n"
        "report_utilization -file routed.rpt\n"
        "report_timing_summary -file timing.rpt\n"
    )
    assert plan.files["clock.xdc"] == "create_clock -name aclk -period 5.000 [get_ports aclk]\n"
    assert plan.outputs == ("synthesis.rpt", "routed.rpt", "timing.rpt")


def test_vivado_gives_two_levels_that_are_never_mixed(fakes, tmp_path):
    synthesized, routed = run_vivado(tmp_path / "build")
    assert vivado.find_tool().version == "Vivado 2023.2"
    assert synthesized.metrics() == {
        "lut_synthesis": 4321, "ff_synthesis": 1234, "dsp_synthesis": 3, "bram_synthesis": 54,
    }  # fmt: skip
    assert routed.metrics() == {
        "lut_routed": 4210, "ff_routed": 1230, "dsp_routed": 3, "bram_routed": 54, "fmax_mhz_routed": 250,
    }  # fmt: skip
    assert synthesized.tool == routed.tool == "Vivado 2023.2"


def test_slack_below_zero_lowers_the_frequency():
    reports = [(REPORTS / name).read_text() for name in vivado.REPORTS]
    reports[2] = reports[2].replace("      1.000 ", "     -3.000 ")
    assert vivado.parse(*reports, 5.0)[1].fmax_mhz == 125


def test_reports_of_7_series_name_slices():
    reports = [(REPORTS / name).read_text().replace("| CLB ", "| Slice ") for name in vivado.REPORTS]
    assert vivado.parse(*reports, 5.0)[0].lut == 4321


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("renamed", "The utilization report of Vivado cannot be read (no row (Slice|CLB) LUTs)"),
        ("unplaced", "The utilization report of Vivado cannot be read (its design is 'Optimized', not 'Routed')"),
    ],
)
def test_a_report_of_another_version_or_state_is_refused(fakes, tmp_path, fault, reason):
    fakes(fault)
    with pytest.raises(ToolError) as error:
        run_vivado(tmp_path / "build")
    assert str(error.value) == f"{reason}; allowed: what Vivado 2018.2 and newer write."


@pytest.mark.parametrize(
    ("position", "text", "reason"),
    [
        (0, "", "The utilization report of Vivado cannot be read (no tool version and design state at its head)"),
        (2, "WNS(ns)\n", "The timing summary of Vivado cannot be read (no worst negative slack)"),
    ],
)
def test_a_text_that_is_no_report_is_refused(position, text, reason):
    reports = [(REPORTS / name).read_text() for name in vivado.REPORTS]
    reports[position] = text
    with pytest.raises(ToolError) as error:
        vivado.parse(*reports, 5.0)
    assert str(error.value) == f"{reason}; allowed: what Vivado 2018.2 and newer write."


@pytest.mark.parametrize(
    ("run", "fault", "message"),
    [
        (
            run_vivado,
            "fail",
            "vivado failed with exit code 1: ERROR: [Place 30-640] Place Check : This design requires",
        ),
        (run_vivado, "hang", "vivado was stopped at its time limit of 0.2 s; allow more, or build less."),
        (run_vivado, "silent", "vivado ended without writing synthesis.rpt; read "),
        (run_vitis, "fail", "vitis-run failed with exit code 1: ERROR: [HLS 200-70] Synthesizability check failed. ("),
        (run_vitis, "hang", "vitis-run was stopped at its time limit of 0.2 s; allow more, or build less."),
        (run_vitis, "silent", "vitis-run ended without writing network_prj/solution1/syn/report/network_csynth.xml; "),
        (run_vitis, "renamed", "The csynth report cannot be read (no AreaEstimates/Resources/LUT); "),
    ],
)
def test_what_a_vendor_tool_does_wrong_is_one_sentence(fakes, tmp_path, run, fault, message):
    fakes(fault)
    with pytest.raises(ToolError) as error:
        run(tmp_path / "build", **({"timeout_s": 0.2} if fault == "hang" else {}))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (vivado, "There is no vivado on PATH; source the settings64.sh of a Vivado installation."),
        (vitis, "There is neither vitis-run nor vitis_hls on PATH; source the settings64.sh of Vitis."),
    ],
)
def test_a_missing_vendor_tool_is_one_sentence(monkeypatch, tmp_path, backend, message):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError) as error:
        backend.find_tool()
    assert str(error.value) == message


def test_a_part_of_another_maker_is_refused():
    with pytest.raises(InvalidValueError) as error:
        vivado.plan(RTL, plugins.load_board("ulx3s_85f"), 20.0)
    assert str(error.value) == "The family of Radiona ULX3S 85F is 'ecp5'; allowed for Vivado: xcup, xc7."


@pytest.mark.parametrize("name", ["vitis-run", "vitis_hls"])
def test_csynth_is_an_estimate_by_name(fakes, tmp_path, monkeypatch, name):
    (tmp_path / name).symlink_to(FAKES / "vitis-run")
    (tmp_path / "reports").symlink_to(REPORTS)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    resources, timing = run_vitis(tmp_path / "build")
    assert vitis.find_tool().version == "Vitis HLS 2024.2"
    assert resources.tool == "Vitis HLS 2023.2 csynth"
    assert resources.metrics() == {
        "lut_estimate": 12345, "ff_estimate": 4567, "dsp_estimate": 3, "bram_estimate": 36, "fmax_mhz_estimate": 250,
    }  # fmt: skip
    assert (timing.latency_cycles, timing.ii, timing.clock_ns, timing.is_simulated) == (12, 2, 5.0, False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda text: text.replace("<Interval-max>2", "<Interval-max>?"),
            "invalid literal for int() with base 10: '?'",
        ),
        (lambda text: text[: text.index("<DSP>")], "no element found: line 13, column 48"),
    ],
)
def test_a_csynth_report_that_is_broken_is_refused(change, reason):
    with pytest.raises(ToolError) as error:
        vitis.parse(change((REPORTS / "csynth.xml").read_text()))
    assert str(error.value) == f"The csynth report cannot be read ({reason}); run Vitis HLS 2020.1 or newer again."
