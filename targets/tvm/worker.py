"""Times kernels in a process of its own: what a bad trial ends is not the tuner.

Says {"ready"} once it has loaded TVM. Reads one JSON object per line, {"library", "arguments", "number", "repeat"}, and
answers with {"seconds"} or {"error"}.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def time_library(request: dict[str, Any]) -> float:
    """Least mean time of a call, in seconds."""
    import numpy as np
    import tvm

    module = tvm.runtime.load_module(request["library"])
    rng = np.random.default_rng(0)
    tensors = []
    for shape, kind in request["arguments"]:
        if kind.startswith("float"):
            array = rng.normal(size=shape).astype(kind)
        elif kind == "bool":
            array = rng.integers(0, 2, shape).astype(bool)
        else:
            info = np.iinfo(kind)
            array = rng.integers(max(info.min, -100), min(info.max, 100), shape).astype(kind)
        tensors.append(tvm.runtime.tensor(np.require(array, requirements="C")))
    timer = module.time_evaluator("kernel", tvm.cpu(), number=request["number"], repeat=request["repeat"])
    return float(timer(*tensors).min)


def main() -> None:
    """Serve until the input ends."""
    import tvm  # noqa: F401  # seconds, on a busy machine minutes: no trial's time

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        try:
            answer = {"seconds": time_library(json.loads(line))}
        except Exception as error:  # the tuner is told, and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
