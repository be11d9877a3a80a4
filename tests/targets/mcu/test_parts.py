from __future__ import annotations

import pytest

from qcompiler.errors import UsageError
from qcompiler.targets import get_target, known_targets
from qcompiler.targets.mcu.parts import CORES, PARTS, parse_part, show_size


def test_sizes_of_a_part() -> None:
    part = parse_part("cortex-m4", "flash=1M,ram=320K")
    assert (part.flash, part.ram, part.name) == (1 << 20, 320 << 10, "cortex-m4:flash=1M,ram=320K")
    assert parse_part("cortex-m4", "ram=65536").name == "cortex-m4:flash=4194240,ram=64K"
    assert parse_part("cortex-m4", "stm32f446re").ram == 128 << 10
    assert parse_part("host-c", "").ram is None


def test_canonical_names_name_the_same_target() -> None:
    for core in CORES:
        assert core in known_targets()
        assert get_target(core).name == core
    for name, (core, flash, ram) in PARTS.items():
        target = get_target(f"{core}:{name}")
        assert (target.part.flash, target.part.ram) == (flash, ram)
        assert get_target(target.name) == target


@pytest.mark.parametrize(
    ("core", "option", "says"),
    [
        ("cortex-m4", "flsh=1M", "flash="),
        ("cortex-m4", "ram=much", "320K"),
        ("cortex-m4", "ram=0", "is no size"),
        ("cortex-m4", "rp2040", "cortex-m0plus:rp2040"),
        ("cortex-m4", "ram=64M", "more than the emulated board"),
        ("host-c", "ram=1M", "takes no option"),
    ],
)
def test_options_that_mean_nothing(core: str, option: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        get_target(f"{core}:{option}")


def test_sizes_are_shown_as_they_are_read() -> None:
    assert [show_size(n) for n in (1 << 20, 320 << 10, 1000)] == ["1M", "320K", "1000"]
