import pytest

from qcompiler.errors import UsageError
from qcompiler.search.goal import Goal
from qcompiler.search.limits import Limits
from qcompiler.targets import get_target


@pytest.mark.parametrize(
    ("target", "limits", "goal"),
    [
        ("onnxruntime-cpu", {"drop": 0.02}, Goal("latency_ratio", "drop", 0.02)),
        ("onnxruntime-cpu", {"drop": 0.02, "objective": "size"}, Goal("size_bytes", "drop", 0.02)),
        ("onnxruntime-cpu", {"latency": "5ms"}, Goal("drop", "latency_ms", 5.0)),
        ("onnxruntime-cpu", {"latency": "0.4x"}, Goal("drop", "latency_ratio", 0.4)),
        ("onnxruntime-cpu", {"size": "0.25x"}, Goal("drop", "size_bytes", 250.0)),
        ("cortex-m4", {"drop": 0.02}, Goal("size_bytes", "drop", 0.02)),
        ("cortex-m4", {"drop": 0.02, "objective": "ram"}, Goal("ram_bytes", "drop", 0.02)),
        ("cortex-m4", {"ram": "64kB"}, Goal("drop", "ram_bytes", 64_000.0)),
        ("cortex-m4", {"instructions": "3.5M"}, Goal("drop", "instructions", 3.5e6)),
    ],
)
def test_limits_are_goals_of_the_target(target, limits, goal):
    assert Limits(**limits).goal(get_target(target), 1000.0) == goal


@pytest.mark.parametrize(
    ("target", "limits", "message"),
    [
        ("onnxruntime-cpu", {}, "exactly one of --max-drop, --max-latency, --max-size, --max-ram, --max-instructions"),
        ("onnxruntime-cpu", {"drop": 0.1, "ram": "1kB"}, "exactly one of"),
        ("onnxruntime-cpu", {"size": "1MB", "objective": "latency"}, "an objective is for a limit on the drop"),
        ("onnxruntime-cpu", {"drop": 0.1, "objective": "speed"}, "known: latency, size, ram, instructions"),
        ("onnxruntime-cpu", {"ram": "64kB"}, "has no memory plan"),
        ("onnxruntime-cpu", {"instructions": "1M"}, "has no simulator"),
        ("host-c", {"drop": 0.1, "objective": "instructions"}, "has no simulator"),
        ("cortex-m4", {"latency": "5ms"}, "cannot be timed"),
        ("cortex-m4", {"drop": 0.1, "objective": "latency"}, "cannot be timed"),
        ("cortex-m4", {"ram": "0.5x"}, "relative to float"),
        ("cortex-m4", {"instructions": "5ms"}, "is no limit"),
    ],
)
def test_what_a_target_cannot_give_is_refused(target, limits, message):
    with pytest.raises(UsageError, match=message):
        Limits(**limits).goal(get_target(target), 1000.0)
