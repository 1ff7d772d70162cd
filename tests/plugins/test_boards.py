"""The contract of every board: a new file in codesign/boards is tested here without a new test."""

import re

import pytest

from codesign.backends import da4ml, yosys
from codesign.core import plugins
from codesign.core.board import Board
from codesign.core.build import Resources
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


def test_everything_that_a_design_needs_too_much_of_is_told():
    board = plugins.load_board("orangecrab")
    design = Resources("synthesis", "Yosys", lut=24_289.0, ff=24_288.0, bram=1_026.0)
    assert board.shortfalls(design) == [
        "24,289 LUT (synthesis), 1 more than the 24,288 of OrangeCrab r0.2",
        "1,026 kbit of BRAM (synthesis), 18 more than the 1,008 of OrangeCrab r0.2",
    ]
    assert board.shortfalls(Resources("estimate", "adder graph", lut=24_288.0, dsp=28.0)) == []


@pytest.mark.parametrize(
    ("level", "fmax_mhz", "is_met"),
    [("routed", 50.0, True), ("routed", 49.9, False), ("synthesis", None, True), ("estimate", 10.0, True)],
)
def test_a_clock_is_met_where_a_router_says_so_or_nobody_knows(level, fmax_mhz, is_met):
    assert Resources(level, "tool", fmax_mhz=fmax_mhz).meets(20.0) is is_met


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
