import pytest

from codesign.core.build import Evidence, Resources
from codesign.core.errors import DataError, TrackingError, UnknownNameError
from codesign.core.firmware import verify_files
from codesign.core.task import Objective
from codesign.tracking.registry import (
    READY,
    download_bundle,
    list_versions,
    promote,
    register_bundle,
    resolve,
)
from codesign.tracking.runs import start_stage
from codesign.tracking.store import connect

ERROR = Objective("error")


@pytest.fixture
def register(tracking, make_bundle):
    """Return a function that registers a bundle in a run of its own and returns the version's number."""
    with start_stage("synthesize", "jets:particles=8", {}) as run:
        count = iter(range(100))
        yield lambda **fields: register_bundle(*make_bundle(f"bundle{next(count)}", **fields), run.id)


def test_a_bundle_comes_back_as_it_went(register, tmp_path):
    assert [register(), register(board="pynq_z2")] == [1, 2]
    newest, first = list_versions("jets")
    assert (str(newest), newest.board, newest.stage, newest.aliases) == ("jets/2", "pynq_z2", "", ())
    assert first.headline == "accuracy"
    assert first.numbers == {
        "accuracy": 0.75,
        "error": 0.25,
        "latency_ns": 20.0,
        "latency_cycles": 5.0,
        "ii": 1.0,
        "clock_ns": 4.0,
        "lut_estimate": 120.0,
        "lut_synthesis": 99.0,
        "ff_synthesis": 40.0,
    }
    fetched = verify_files(download_bundle(first, tmp_path / "fetched"))
    assert fetched == verify_files(tmp_path / "bundle0")


def test_mlflow_finds_firmware_by_its_numbers(register):
    register(metrics={"error": 0.2})
    register(metrics={"error": 0.3})
    store = connect()
    found = store.client.search_logged_models(store.experiments(), "metrics.error <= 0.25 AND metrics.ii = 1")
    assert [m.model_id for m in found] == [resolve("jets/1").model_id]
    assert found[0].model_type == "fpga-firmware"
    assert found[0].status == "READY"


def test_the_alias_goes_to_the_best_promoted_version(register):
    cheap = [Resources("synthesis", "yosys", lut=50)]
    register(metrics={"error": 0.3})
    register(metrics={"error": 0.2})
    register(metrics={"error": 0.2}, resources=cheap)
    register(metrics={"error": 0.1})  # best, and never promoted
    assert promote("jets", 1, ERROR).aliases == (READY,)
    assert promote("jets", 2, ERROR).aliases == (READY,)
    assert promote("jets", 3, ERROR).aliases == (READY,)
    assert promote("jets", 1, ERROR).aliases == ()
    assert [v.stage for v in list_versions("jets")] == ["", READY, READY, READY]
    assert resolve("jets") == resolve(f"jets@{READY}") == resolve("jets/3")


def test_a_maximized_metric_is_best_when_largest(register):
    register(metrics={"accuracy": 0.6})
    register(metrics={"accuracy": 0.7})
    goal = Objective("accuracy", "max")
    promote("jets", 2, goal)
    assert promote("jets", 1, goal).aliases == ()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"gates": {"limits met": False, "exact": True}}, "limits met"),
        ({"evidence": [Evidence("rtl", "verilator", 1000, 3)]}, "rtl exact (3 of 1000 vectors differ)"),
        ({"evidence": [Evidence("rtl", "verilator", 0, 0)]}, "rtl exact (0 of 0 vectors differ)"),
        ({"gates": {}}, "no gate or no evidence is recorded"),
        ({"evidence": []}, "no gate or no evidence is recorded"),
    ],
)
def test_what_is_not_ready_is_not_promoted_by_half(register, fields, reason):
    register()
    promote("jets", 1, ERROR)
    register(metrics={"error": 0.01}, **fields)
    with pytest.raises(TrackingError) as error:
        promote("jets", 2, ERROR)
    assert str(error.value) == f"The firmware jets/2 is not ready: {reason}. It stays without the stage FPGA-ready."
    assert (resolve("jets/2").stage, resolve("jets").version) == ("", 1)


def test_promotion_verifies_what_the_store_holds(register, tracking):
    register()
    (weights,) = tracking.glob("mlartifacts/**/models/*/artifacts/network/network.npz")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DataError, match=r"1 file\(s\) are changed, first network/network.npz"):
        promote("jets", 1, ERROR)
    assert resolve("jets/1").stage == ""


def test_promotion_by_a_metric_that_is_not_there_is_refused(register):
    register()
    with pytest.raises(UnknownNameError, match=r"Did you mean 'error'\?"):
        promote("jets", 1, Objective("eror"))
    assert resolve("jets/1").stage == ""


def test_only_the_bundle_of_the_manifest_is_registered(tracking, make_bundle):
    folder, _ = make_bundle("one")
    _, other = make_bundle("two", board="pynq_z2")
    with start_stage("synthesize", "jets", {}) as run:
        with pytest.raises(DataError, match="is not of the firmware to be registered"):
            register_bundle(folder, other, run.id)
        (folder / "rtl" / "top.v").write_text("module top (); endmodule\n")
        with pytest.raises(DataError, match=r"1 file\(s\) are changed, first rtl/top.v"):
            register_bundle(folder, verify_files(folder.parent / "two"), run.id)
    assert list_versions() == []


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("jets/7", "The firmware jets has no version 7; allowed: jets/1."),
        ("jets", "The firmware jets has no version with the alias FPGA-ready; allowed: jets/1."),
        ("jets@mine", "The firmware jets has no version with the alias mine; allowed: jets/1."),
        ("jets/one", "The firmware 'jets/one' was asked for; allowed: NAME, NAME@ALIAS or NAME/VERSION."),
        (
            "jest",
            "There is no registered firmware 'jest'; allowed: jets. Did you mean 'jets'? "
            "Register some with the stage synthesize.",
        ),
    ],
)
def test_a_reference_to_nothing_is_explained(register, reference, message):
    register()
    with pytest.raises((TrackingError, UnknownNameError)) as error:
        resolve(reference)
    assert str(error.value) == message
