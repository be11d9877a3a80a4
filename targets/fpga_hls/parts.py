"""Parts, and what they hold. Figures are those of the vendor's product tables (DS180, DS190, DS891, DS962)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qcompiler.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Part:
    """An FPGA.

    Attributes:
        name: as users write it.
        device: full name, for the vendor's tools.
        family: `xc7`, `xcup` (UltraScale+).
        lut, ff, dsp: available.
        bram: blocks of 36 Kbit.
        uram: blocks of 288 Kbit.
        clock_mhz: asked for where the user names none.
    """

    name: str
    device: str
    family: str
    lut: int
    ff: int
    dsp: int
    bram: int
    uram: int
    clock_mhz: float


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("xc7a35t", "xc7a35tcpg236-1", "xc7", 20_800, 41_600, 90, 50, 0, 100.0),
        Part("xc7a100t", "xc7a100tcsg324-1", "xc7", 63_400, 126_800, 240, 135, 0, 100.0),
        Part("xc7z020", "xc7z020clg400-1", "xc7", 53_200, 106_400, 220, 140, 0, 100.0),
        Part("xc7z045", "xc7z045ffg900-2", "xc7", 218_600, 437_200, 900, 545, 0, 150.0),
        Part("xczu3eg", "xczu3eg-sbva484-1-e", "xcup", 70_560, 141_120, 360, 216, 0, 200.0),
        Part("xczu7ev", "xczu7ev-ffvc1156-2-e", "xcup", 230_400, 460_800, 1_728, 312, 96, 250.0),
        Part("xcu250", "xcu250-figd2104-2L-e", "xcup", 1_728_000, 3_456_000, 12_288, 2_688, 1_280, 300.0),
    )
}
DEFAULT = "xc7z020"


@dataclass(frozen=True)
class Option:
    """What stands after `fpga-hls:`.

    Attributes:
        part: to build for.
        clock_mhz: asked for.
        mult_bits: widest multiplier of a rescale.
        folds: units whose folding is given, with their PE and SIMD; None leaves SIMD to the search.
    """

    part: Part
    clock_mhz: float
    mult_bits: int = 17
    folds: tuple[tuple[str, int, int | None], ...] = ()

    @property
    def text(self) -> str:
        """As users write it."""
        clock = "" if self.clock_mhz == self.part.clock_mhz else f"@{self.clock_mhz:g}"
        bits = "" if self.mult_bits == 17 else f",mult_bits={self.mult_bits}"
        folds = "".join(f",fold.{unit}={pe}" + ("" if simd is None else f"x{simd}") for unit, pe, simd in self.folds)
        return f"{self.part.name}{clock}{bits}{folds}"

    @property
    def period_ns(self) -> float:
        """Of the clock."""
        return 1000.0 / self.clock_mhz


def parse_option(text: str) -> Option:
    """`[PART][@MHZ][,mult_bits=N][,fold.UNIT=PExSIMD]...`.

    Raises:
        UsageError: an unknown part, with the known ones; a clock, number of bits or folding that is none.
    """
    name, *fields = [part.strip() for part in text.split(",")]
    name, _, clock = name.partition("@")
    name = name or DEFAULT
    if name not in PARTS:
        raise UsageError(f"unknown part {name!r}; known: {', '.join(PARTS)}.{did_you_mean(name, PARTS)}")
    part = PARTS[name]
    bits, folds = 17, []
    for field in fields:
        key, _, value = field.partition("=")
        if key.startswith("fold.") and (given := re.fullmatch(r"(\d+)(?:x(\d+))?", value)):
            folds.append((key.removeprefix("fold."), int(given[1]), None if given[2] is None else int(given[2])))
        elif key == "mult_bits" and value in ("31", "17", "15"):
            bits = int(value)
        else:
            raise UsageError(
                f"option {field!r} of fpga-hls is none; known: mult_bits=31, mult_bits=17, mult_bits=15, and fold.UNIT=PExSIMD"
                " or fold.UNIT=PE with a unit of estimate.md"
            )
    return Option(part, _clock(clock, part), bits, tuple(folds))


def _clock(text: str, part: Part) -> float:
    if not text:
        return part.clock_mhz
    try:
        mhz = float(text.lower().removesuffix("mhz"))
    except ValueError:
        mhz = 0.0
    if not 1.0 <= mhz <= 1000.0:
        raise UsageError(f"clock {text!r} is none; write it in MHz, between 1 and 1000: fpga-hls:{part.name}@100")
    return mhz
