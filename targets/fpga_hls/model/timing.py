"""When words leave a unit: exact closed forms of the Verilog twins, for streams that never wait.

Clock 0 is the one in which the first word is taken.
"""

from __future__ import annotations

from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.units import SlidingWindow
from qcompiler.targets.fpga_hls.verilog.instance import unit_latency


def unit_clocks(unit: Unit, frames: int) -> int:
    """The clock in which the last word of the last of `frames` frames leaves the unit."""
    end = frames * unit.interval - 1
    if isinstance(unit, SlidingWindow):
        end -= unit.interval - 1 - last_issue(unit)
    return end + unit_latency(unit)


def last_issue(unit: SlidingWindow) -> int:
    """The clock of a frame in which its last word is issued; rows may be read after that."""
    row, written = row_words(unit)
    before_last = unit.rows_before(unit.out_height - 1)
    tail = max(written, (unit.height - before_last) * row)
    return unit.interval - tail + written - 1


def row_words(unit: SlidingWindow) -> tuple[int, int]:
    """Words of a row that is read, and of a row of windows that is written."""
    lanes = unit.folding.pe
    return unit.width * unit.channels // lanes, unit.out_width * unit.taps * unit.channels // lanes
