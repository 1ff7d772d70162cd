"""The contract of every board: a new file in codesign/boards is tested here without a new test."""

import re

import pytest

from codesign.backends import da4ml, yosys
from codesign.core import plugins
from codesign.core.board import Board
from codesign.core.errors import InvalidValueError, UnknownNameError

BOARDS = plugins.names("boards")
PARTS = {
    "xcup": r"xc(vu|zu|ku|u|k)\d+\w*-\w+-\d\w*-\w",
    "xc7": r"xc7\w+-\d\w*",
    "ecp5": r"LFE5UM?(5G)?-\d+F-\d\w+",
}


def test_there_are_boards_and_the_default_is_one():
    assert "vu13p" in BOARDS


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_what_its_file_says(name):
    board = plugins.load_board(name)
    assert isinstance(board, Board)
    assert board.name == name
    assert board.title
    assert re.fullmatch(PARTS[board.family], board.part)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_can_be_built_for(name):
    board = plugins.load_board(name)
    assert board.family in yosys.FAMILIES
    assert da4ml.cutoff_for(board.family, board.clock_ns) >= 1


@pytest.mark.parametrize("name", BOARDS)
def test_its_numbers_are_plausible_and_cited(name):
    board = plugins.load_board(name)
    assert 1.0 <= board.clock_ns <= 100.0
    assert board.ff in (board.lut, 2 * board.lut)  # one register for each LUT in an ECP5 slice, two in an AMD one
    assert board.bram_kbit % 18 == 0
    assert board.lut > board.dsp > 0
    assert re.match(r"(AMD DS\d+|Lattice FPGA-DS-\d+) \(", board.source)


@pytest.mark.parametrize("name", BOARDS)
def test_its_loader_is_a_file_or_none(name):
    board = plugins.load_board(name)
    loaders = plugins.PACKAGE.parent / "deploy" / "loaders"
    assert board.loader == "" or (loaders / f"{board.loader}.py").is_file()


def test_a_mistyped_board_gets_a_suggestion():
    with pytest.raises(UnknownNameError) as error:
        plugins.load_board("vu13")
    assert str(error.value) == f"There is no board 'vu13'; allowed: {', '.join(BOARDS)}. Did you mean 'vu13p'?"


def test_a_clock_of_zero_is_the_boards_own_and_a_negative_one_is_refused():
    board = plugins.load_board("vu13p")
    assert board.with_clock(0.0) == board.clock_ns
    assert board.with_clock(2.5) == 2.5
    with pytest.raises(InvalidValueError) as error:
        board.with_clock(-1.0)
    assert str(error.value) == "The clock period is -1.0 ns; allowed: above 0, or 0 for the board's 5.0 ns."
