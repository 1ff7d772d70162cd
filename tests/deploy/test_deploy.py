import json
import re
import resource
import subprocess
import sys

import numpy as np
import pytest

from codesign.core.firmware import MANIFEST, Firmware, hash_files
from codesign.core.task import Objective
from codesign.tracking.registry import promote, register_bundle
from codesign.tracking.runs import start_stage
from codesign.tracking.store import ROOT
from deploy.__main__ import main


def register_two(write, folder):
    """Register two versions of jets and promote the first."""
    with start_stage("synthesize", "jets:particles=8", {}) as run:
        register_bundle(*write(folder / "one"), run.id)
        second = write(folder / "two", board="pynq_z2", metrics={"accuracy": 0.5, "error": 0.5})
        register_bundle(*second, run.id)
    promote("jets", 1, Objective("error"))


@pytest.fixture(scope="module")
def registry(module_tracking, write_small_bundle):
    """Two versions of jets that tests only read."""
    register_two(write_small_bundle, module_tracking)


@pytest.fixture
def registered(registry, tmp_path, monkeypatch):
    """The same; the current directory is the test's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own_registry(tracking, write_small_bundle, tmp_path, monkeypatch):
    """Two versions of jets in a store that the test may damage; returns its folder."""
    register_two(write_small_bundle, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tracking


def deploy(capsys, *arguments):
    status = main([str(a) for a in arguments])
    output = capsys.readouterr()
    return status, output.out.strip(), output.err.strip()


def sign(folder):
    """Make the manifest agree with the files, as one would who can change both."""
    content = json.loads((folder / MANIFEST).read_text())
    content["files"] = hash_files(folder)
    (folder / MANIFEST).write_text(json.dumps(content))


def test_list_pull_verify_check(registered, capsys):
    status, out, err = deploy(capsys, "list")
    assert (status, err) == (0, "")
    assert [re.split(r"  +", line) for line in out.splitlines()] == [
        ["name", "version", "stage", "alias", "board", "metric", "LUT", "latency_ns", "ii"],
        ["jets", "2", "–", "–", "pynq_z2", "accuracy=0.5", "99 (synthesis)", "20", "1"],
        ["jets", "1", "FPGA-ready", "FPGA-ready", "vu13p", "accuracy=0.75", "99 (synthesis)", "20", "1"],
    ]
    assert deploy(capsys, "pull", "jets") == (0, "bundles/jets-1: jets/1 for vu13p, 6 files verified", "")
    assert deploy(capsys, "pull", "jets@FPGA-ready") == (0, "bundles/jets-1: holds jets/1 already", "")
    assert deploy(capsys, "verify", "bundles/jets-1") == (
        0,
        "bundles/jets-1: 6 files are what the manifest says",
        "",
    )
    assert deploy(capsys, "check", "bundles/jets-1") == (0, "bundles/jets-1: 1000 golden vectors, 0 mismatches", "")
    status, out, _ = deploy(capsys, "pull", "jets/2", "--to", "mine")
    assert (status, out) == (0, "mine: jets/2 (not FPGA-ready) for pynq_z2, 6 files verified")


@pytest.mark.parametrize(
    ("arguments", "versions"),
    [
        (["--ready"], [1]),
        (["--board", "pynq_z2"], [2]),
        (["--where", "accuracy>=0.6"], [1]),
        (["--where", "accuracy>=0.4, lut_synthesis<=99"], [2, 1]),
        (["--where", "lut_synthesis<=98"], []),
    ],
)
def test_list_filters(registered, capsys, arguments, versions):
    _, out, _ = deploy(capsys, "list", *arguments)
    assert [int(line.split()[1]) for line in out.splitlines()[1:]] == versions
    assert versions or out == "no firmware matches"


def test_an_empty_registry_says_so(tracking, capsys):
    assert deploy(capsys, "list") == (0, "no firmware is registered yet", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "jest"], "There is no registered firmware 'jest'; allowed: jets. Did you mean 'jets'?"),
        (["list", "--where", "acuracy>=0.5"], "There is no number of the registered firmware 'acuracy'; allowed: "),
        (["list", "--where", "accuracy"], "A limit reads 'accuracy'; allowed: such as lut_synthesis<=30000."),
        (["list", "--where", "accuracy=>1"], "An objective reads 'accuracy=>1'; allowed: a metric, or a metric"),
        (["pull", "jets/9"], "The firmware jets has no version 9; allowed: jets/2, jets/1 @FPGA-ready."),
        (["pull", "a b"], "The firmware 'a b' was asked for; allowed: NAME, NAME@ALIAS or NAME/VERSION."),
        (["verify", "nowhere"], "There is no folder nowhere; allowed: a pulled bundle"),
        (["check", "."], "There is no manifest.json in .; allowed: the folder of a pulled bundle."),
    ],
)
def test_bad_input_is_one_sentence(registered, capsys, arguments, message):
    status, out, err = deploy(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


def test_pull_refuses_to_overwrite_anything_else(registered, capsys):
    (registered / "mine").mkdir()
    message = "error: mine exists and is not jets/1 as registered; remove it, or choose another folder with --to."
    assert deploy(capsys, "pull", "jets", "--to", "mine") == (1, "", message)
    assert list((registered / "mine").iterdir()) == []
    deploy(capsys, "pull", "jets/2", "--to", "two-again")
    assert deploy(capsys, "pull", "jets/1", "--to", "two-again")[0] == 1


def test_pull_leaves_nothing_behind_when_the_store_was_changed(own_registry, tmp_path, capsys):
    for weights in own_registry.glob("mlartifacts/**/models/*/artifacts/network/network.npz"):
        weights.write_bytes(b"")
    status, _, err = deploy(capsys, "pull", "jets")
    assert status == 1
    assert "1 file(s) are changed, first network/network.npz" in err
    assert list((tmp_path / "bundles").iterdir()) == []


def test_pull_refuses_a_store_in_which_manifest_and_files_were_changed_together(own_registry, capsys):
    for manifest in own_registry.glob(f"mlartifacts/**/models/*/artifacts/{MANIFEST}"):
        (manifest.parent / "rtl" / "top.v").write_text("module top; initial $finish; endmodule\n")
        sign(manifest.parent)
    status, _, err = deploy(capsys, "pull", "jets")
    assert status == 1
    assert err.startswith("error: The manifest of jets/1 in sqlite:///")
    assert err.endswith("was changed after it was registered; do not use this version.")


def change_a_byte(folder):
    path = folder / "rtl" / "top.v"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def add_a_link(folder):
    (folder / "rtl" / "top.v").unlink()
    (folder / "rtl" / "top.v").symlink_to("/etc/hostname")


def name_a_path(path):
    def change(folder):
        content = json.loads((folder / MANIFEST).read_text())
        content["files"][path] = "0" * 64
        (folder / MANIFEST).write_text(json.dumps(content))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_a_byte, "In the bundle {folder}, 1 file(s) are changed, first rtl/top.v. Pull it again."),
        (
            lambda folder: (folder / "golden.npz").unlink(),
            "In the bundle {folder}, 1 file(s) are missing, first golden.npz. Pull it again.",
        ),
        (
            lambda folder: (folder / "rtl" / "more.v").write_text("x"),
            "In the bundle {folder}, 1 file(s) are extra, first rtl/more.v. Pull it again.",
        ),
        (add_a_link, "The bundle holds a link, rtl/top.v; allowed: plain files. Do not use it."),
        *(
            (
                name_a_path(path),
                f"The manifest names the file {path!r}; allowed: paths inside of the bundle. Do not use it.",
            )
            for path in ("../evil", "/etc/passwd", "rtl/../../evil", "..\\evil")
        ),
        (
            lambda folder: (folder / MANIFEST).write_text("{}"),
            "This is no manifest of schema 1: KeyError('schema'). Pull the bundle again.",
        ),
        (lambda folder: (folder / MANIFEST).unlink(), "There is no manifest.json in {folder}; allowed: the folder of"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "check"])
def test_a_bundle_that_was_changed_is_refused(make_bundle, capsys, command, change, message):
    folder, _ = make_bundle()
    assert deploy(capsys, command, folder)[0] == 0
    change(folder)
    status, out, err = deploy(capsys, command, folder)
    assert (status, out) == (1, "")
    assert err.startswith("error: " + message.format(folder=folder))


def rewrite_golden(folder, **changes):
    with np.load(folder / "golden.npz") as arrays:
        content = {name: arrays[name] for name in arrays.files}
    np.savez(folder / "golden.npz", **{k: v for k, v in (content | changes).items() if v is not None})
    sign(folder)


def test_check_counts_golden_vectors_that_differ(make_bundle, capsys):
    folder, _ = make_bundle()
    with np.load(folder / "golden.npz") as arrays:
        outputs = arrays["outputs"]
    outputs[3, 1] += 1
    outputs[998] -= 1
    rewrite_golden(folder, outputs=outputs)
    status, out, err = deploy(capsys, "check", folder)
    assert (status, out) == (1, f"{folder}: 1000 golden vectors, 2 mismatches")
    assert err.startswith(f"error: Golden vector 3 should give {outputs[3].tolist()} and gives ")


def test_check_refuses_another_network(make_bundle, capsys):
    folder, firmware = make_bundle()
    with np.load(folder / "network" / "network.npz") as arrays:
        content = {name: arrays[name].copy() for name in arrays.files}
    content["1.weight"][0, 0] += 1
    np.savez(folder / "network" / "network.npz", **content)
    sign(folder)
    status, _, err = deploy(capsys, "check", folder)
    assert status == 1
    assert f"the manifest names {firmware.network_digest[:12]}; do not use this bundle." in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.zeros((1000, 4), np.int64)}, "have the shapes (1000, 4) and (1000, 4); allowed:"),
        ({"inputs": np.zeros((999, 3), np.int64)}, "have the shapes (999, 3) and (1000, 4); allowed:"),
        ({"inputs": np.zeros((0, 3), np.int64), "outputs": np.zeros((0, 4), np.int64)}, "allowed: one or more rows"),
        ({"inputs": np.zeros((1000, 3))}, "are float64 and int64; allowed: int64."),
        ({"inputs": np.full((1000, 3), 32)}, "is outside of the network's input format"),
        ({"outputs": None}, "cannot be read: "),
        ({"inputs": np.array([{}] * 1000)}, "cannot be read: Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_check_refuses_malformed_golden_vectors(make_bundle, capsys, changes, message):
    folder, _ = make_bundle()
    rewrite_golden(folder, **changes)
    status, _, err = deploy(capsys, "check", folder)
    assert status == 1
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_damaged_network_is_refused(make_bundle, capsys):
    folder, _ = make_bundle()
    (folder / "network" / "network.npz").write_bytes(b"PK nonsense")
    sign(folder)
    status, _, err = deploy(capsys, "check", folder)
    assert status == 1
    assert err.startswith(f"error: The network in {folder} cannot be read: ")


def test_equal_bundles_are_equal_bytes_and_describe_themselves(make_bundle):
    folder, firmware = make_bundle("one")
    again, same = make_bundle("two")
    assert firmware == same
    assert (folder / MANIFEST).read_bytes() == (again / MANIFEST).read_bytes()
    assert set(firmware.files) == {"README.md", "golden.npz", "network/network.json", "network/network.npz",
                                   "network.qonnx.onnx", "rtl/top.v"}  # fmt: skip
    readme = (folder / "README.md").read_text()
    assert "Latency 5 cycles\n(20 ns at a clock of 4 ns), a new input every 1 cycle(s), counted in an RTL" in readme
    assert "| synthesis | yosys | 99 | 40 | – | – |" in readme
    assert Firmware.from_json((folder / MANIFEST).read_text()).is_ready


def test_a_bundle_that_cannot_be_written_leaves_nothing(make_bundle, tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        make_bundle("broken", metrics={"error": float("nan")})
    assert list(tmp_path.iterdir()) == []


def run_python(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed here", name=name)
sys.meta_path.insert(0, Blocker())
from deploy.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
HEAVY = ["torch", "hls4ml", "da4ml", "qonnx", "onnx", "brevitas", "torch_pruning", "hyperopt", "sklearn", "plotly"]


def test_verify_and_check_need_numpy_alone(make_bundle):
    folder, _ = make_bundle()
    for command in ("verify", "check"):
        done = run_python(BLOCKED.format(blocked=[*HEAVY, "mlflow", "boto3", "scipy", "pandas"]), command, folder)
        assert (done.returncode, done.stderr) == (0, "")


def test_pull_needs_no_training_and_no_hardware_library(registered):
    target = registered / "fetched"
    done = run_python(BLOCKED.format(blocked=HEAVY), "pull", "jets", "--to", target)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{target}: jets/1 for vu13p, 6 files verified\n"


def test_help_is_instant():
    command = [sys.executable, "-m", "deploy", "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert all(word in done.stdout for word in ("list", "pull", "verify", "check"))
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3  # seconds of work, however busy
