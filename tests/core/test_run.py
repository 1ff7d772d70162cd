"""Running plans: finished results are reused, and nothing half-made ever counts as one."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codesign.core.build import BuildPlan
from codesign.core.errors import InvalidValueError, ToolError
from codesign.core.run import LOCK, Tool, run_command, run_plan


def shell(script, outputs=("out.txt",), timeout_s=20.0, **files):
    return BuildPlan("plan", {"run.sh": script} | files, ("sh", "run.sh"), outputs, timeout_s)


def test_files_are_written_and_outputs_made(tmp_path):
    folder = run_plan(shell("cat deep/in.txt > out.txt; echo said", **{"deep/in.txt": "content"}), tmp_path / "build")
    assert (folder / "out.txt").read_text() == "content"
    assert (folder / "build.log").read_text() == "said\n"


def test_a_finished_build_of_an_equal_plan_is_not_run_again(tmp_path):
    plan = shell("echo x >> ../count; echo done > out.txt")
    for _ in range(3):
        run_plan(plan, tmp_path / "build")
    assert (tmp_path / "count").read_text() == "x\n"
    run_plan(shell("echo x >> ../count; echo other > out.txt"), tmp_path / "build")
    assert (tmp_path / "count").read_text() == "x\nx\n"
    assert (tmp_path / "build" / "out.txt").read_text() == "other\n"


def test_runs_of_one_build_wait_for_one_another_and_it_is_built_once(tmp_path):
    program = (
        "import sys; from pathlib import Path; from codesign.core.build import BuildPlan; "
        "from codesign.core.run import run_plan; "
        "plan = BuildPlan('plan', {}, ('sh', '-c', 'echo x >> ../count; echo done > out.txt'), ('out.txt',)); "
        "print((run_plan(plan, Path(sys.argv[1])) / 'out.txt').read_text(), end='')"
    )
    folder = tmp_path / "build"
    folder.mkdir()
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-c", program, str(folder)]
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        assert [run.stderr.readline() for run in runs] == [f"waiting for another run that builds {folder}\n"] * 2
        assert not (tmp_path / "count").exists()
    assert [run.communicate(timeout=60) for run in runs] == [("done\n", "")] * 2
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_finished_build_that_lost_an_output_is_run_again(tmp_path):
    plan = shell("echo done > out.txt")
    (run_plan(plan, tmp_path / "build") / "out.txt").unlink()
    assert (run_plan(plan, tmp_path / "build") / "out.txt").exists()


def test_what_a_failed_run_left_is_never_taken_for_a_result(tmp_path):
    plan = shell(
        "test -e ../repaired || { echo half > out.txt; echo 'disk error: full' >&2; exit 3; }; echo whole > out.txt"
    )
    for _ in range(2):
        with pytest.raises(ToolError) as error:
            run_plan(plan, tmp_path / "build")
        assert str(error.value) == f"sh failed with exit code 3: disk error: full ({tmp_path}/build/build.log)"
    (tmp_path / "repaired").touch()
    assert (run_plan(plan, tmp_path / "build") / "out.txt").read_text() == "whole\n"


def test_a_missing_output_is_an_error(tmp_path):
    with pytest.raises(ToolError) as error:
        run_plan(shell("true"), tmp_path / "build")
    assert str(error.value) == f"sh ended without writing out.txt; read {tmp_path}/build/build.log."


def test_a_program_that_hangs_is_stopped_with_all_it_started(tmp_path):
    before = time.monotonic()
    with pytest.raises(ToolError) as error:
        run_plan(shell("sleep 60 & echo $! > child; wait", timeout_s=0.5), tmp_path / "build")
    assert str(error.value) == "sh was stopped at its time limit of 0.5 s; allow more, or build less."
    assert time.monotonic() - before < 10
    child = int((tmp_path / "build" / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    for _ in range(50):
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child is still running")


def test_a_missing_program_is_one_sentence(tmp_path):
    with pytest.raises(ToolError) as error:
        run_plan(BuildPlan("plan", {}, ("no-such-program",)), tmp_path / "build")
    assert (
        str(error.value)
        == "no-such-program cannot be started (No such file or directory); install it, or put it on PATH."
    )


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidValueError) as error:
        run_plan(shell("true"), tmp_path)
    assert str(error.value) == f"The folder {tmp_path} holds other files; allowed: an empty one, or an earlier build."
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_tool_stands_in_for_the_first_word_and_brings_its_environment(tmp_path):
    plan = BuildPlan("plan", {}, ("compiler", "-c", "echo $FLAVOR > out.txt"), ("out.txt",))
    folder = run_plan(plan, tmp_path / "build", Tool(("sh",), "sh 1", {"FLAVOR": "vanilla"}))
    assert (folder / "out.txt").read_text() == "vanilla\n"
    assert "FLAVOR" not in os.environ


def test_what_a_command_prints_is_returned(tmp_path):
    assert run_command(("sh", "-c", "echo out; echo err >&2"), tmp_path, 10.0) == "out\nerr\n"


def test_plans_differ_by_content_not_by_name():
    assert shell("a").digest == shell("a").digest
    assert shell("a").digest != shell("b").digest
    assert shell("a").digest != shell("a", outputs=()).digest
