"""Bad input to a stage: one sentence with what is allowed, and no run left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from codesign.core.errors import CodesignError
from codesign.stages import global_search, local_compress, synthesize
from codesign.stages.options import parse

ROOT = Path(__file__).parents[1]
TASKS = ", ".join(sorted(p.parent.name for p in ROOT.glob("projects/*/task.py")))
BOARDS = ", ".join(sorted(p.stem for p in ROOT.glob("codesign/boards/[a-z]*.py")))


@pytest.mark.parametrize(
    ("stage", "arguments", "sentence"),
    [
        (
            global_search.GlobalSearch,
            ["--trials", "0"],
            "Parameter trials is 0; allowed: 1 or more.",
        ),
        (
            global_search.GlobalSearch,
            ["--trials", "many"],
            "Parameter trials is 'many'; allowed: a whole number.",
        ),
        (
            global_search.GlobalSearch,
            ["--trials", "2.5"],
            "Parameter trials is '2.5'; allowed: a whole number.",
        ),
        (
            global_search.GlobalSearch,
            ["--trails", "20"],
            "There is no parameter 'trails'; allowed: algorithm, bits, confirm, dataflow, device, epochs, from_run, "
            "objectives, resume, rungs, seed, stages, task, trials, workers. Did you mean 'trials'?",
        ),
        (
            global_search.GlobalSearch,
            ["--device", "gpu"],
            "There is no value of parameter device 'gpu'; allowed: auto, cpu, cuda. Did you mean 'cpu'?",
        ),
        (
            synthesize.Synthesize,
            ["--clock_ns", "-1"],
            "Parameter clock_ns is -1.0; allowed: 0 or more.",
        ),
    ],
)
def test_a_bad_parameter_is_one_sentence(stage, arguments, sentence):
    with pytest.raises(CodesignError) as error:
        parse(stage, arguments)
    assert str(error.value) == sentence


@pytest.mark.usefixtures("tracking")
class TestSentences:
    def test_unknown_task(self):
        with pytest.raises(CodesignError) as error:
            global_search.run(global_search.GlobalSearch(task="jet_clasification"))
        assert str(error.value) == (
            f"There is no task 'jet_clasification'; allowed: {TASKS}. Did you mean 'jet_classification'?"
        )

    def test_unknown_option_of_a_task(self):
        with pytest.raises(CodesignError, match="There is no option of task jet_classification 'particle'"):
            global_search.run(global_search.GlobalSearch(task="jet_classification:particle=16"))

    def test_unknown_board(self):
        with pytest.raises(CodesignError) as error:
            synthesize.run(synthesize.Synthesize(board="vu13"))
        assert str(error.value) == f"There is no board 'vu13'; allowed: {BOARDS}. Did you mean 'vu13p'?"

    def test_a_project_that_is_not_built(self):
        with pytest.raises(CodesignError, match=r"^The hls4ml view does not build backend 'oneAPI': .* Use Vitis or "):
            synthesize.run(synthesize.Synthesize(hls_backend="oneAPI"))

    def test_an_objective_that_cannot_be_read(self):
        with pytest.raises(CodesignError) as error:
            global_search.run(global_search.GlobalSearch(objectives="error<0.3"))
        assert str(error.value) == (
            "An objective reads 'error<0.3'; allowed: a metric, or a metric with a limit such as lut_estimate<=30000."
        )

    def test_no_search_to_compress(self):
        with pytest.raises(CodesignError, match="There is no finished run of global_search for the task"):
            local_compress.run(local_compress.LocalCompress())

    def test_unknown_run(self):
        with pytest.raises(CodesignError, match="There is no run '0123'"):
            local_compress.run(local_compress.LocalCompress(from_run="0123"))

    def test_bit_widths_that_cannot_be_read(self):
        with pytest.raises(CodesignError) as error:
            local_compress.run(local_compress.LocalCompress(bits="8;6"))
        assert str(error.value) == "Parameter bits is '8;6'; allowed: whole numbers with commas between, such as 8,6."


def test_the_command_prints_one_sentence_and_fails():
    result = subprocess.run(
        [sys.executable, "-m", "codesign.stages.synthesize", "--board", "vu13p", "--vectors", "10"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == "error: Parameter vectors is 10; allowed: 1000 or more.\n"
    assert result.stdout == ""
