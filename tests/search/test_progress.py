"""What a person sees while a study runs."""

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.search.progress import Progress, describe

OBJECTIVES = (Objective("accuracy", "max"), Objective("lut", limit=100))
ARCHITECTURE = Architecture((2,), (Dense(2),))


def trial(number, accuracy, lut):
    metrics = {"accuracy": accuracy, "lut": lut}
    return Trial(number, ARCHITECTURE, 0, Fidelity(1), metrics).judged(OBJECTIVES)


FAILED = Trial(9, ARCHITECTURE, 0, Fidelity(1), failure="diverged")
TRIALS = [trial(0, 0.5, 50), trial(1, 0.9, 80), trial(2, 0.99, 500), FAILED, trial(3, 0.7, 60), trial(4, 0.6, 90)]


def test_progress_in_words():
    assert describe(TRIALS, OBJECTIVES) == "accuracy 0.9, lut 50, front 3, hypervolume 0.600, 1 failed"
    assert describe([], OBJECTIVES) == "no feasible trial yet"
    assert describe([FAILED], OBJECTIVES) == "1 failed"


def test_a_log_gets_a_line_at_the_start_and_at_the_end(capsys):
    bar = Progress(2, OBJECTIVES, is_shown=True)
    bar.update(0, [], is_resumed=True)
    bar.update(1, TRIALS[:1])
    bar.update(2, TRIALS[:2])
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "trial 0/2: no feasible trial yet"
    assert lines[1] == "trial 2/2: accuracy 0.9, lut 50, front 2, hypervolume 0.400"
    assert len(lines) == 2


def test_nothing_is_shown_where_nothing_is_asked(capsys):
    bar = Progress(2, OBJECTIVES, is_shown=False)
    bar.update(2, TRIALS)
    bar.close()
    assert capsys.readouterr() == ("", "")
