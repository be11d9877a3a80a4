"""Layers that stay real between quantized ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.boundary import quantize_inputs
from qcompiler.compilation import build_passes
from qcompiler.ir import DType
from qcompiler.passes.base import Context, run_passes
from qcompiler.recipe import load_recipe
from qcompiler.targets import get_target
from qcompiler.targets.onnx.runtime import OnnxSession
from support.toy_networks import Layers, random_samples


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
def test_a_layer_between_quantized_ones_stays_real_in_the_runtime(op: str, tmp_path: Path) -> None:
    """It rounds such a weight to 8 bits with one scale where it takes the layer for a quantized one."""
    b, cpu = Layers("island"), get_target("onnxruntime-cpu")
    x = b.input("x", DType.float32, (1, 8, 6, 6))
    h = b.op("relu", b.conv(x, 8, at="first"))
    spread = np.geomspace(1, 1e-4, 8).astype(np.float32).reshape((-1, 1, 1, 1) if op == "conv" else (1, -1, 1, 1))
    attrs = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1}
    b.origin = type(b.origin)("island")
    more = {"output_padding": (0, 0)} if op == "conv_transpose" else {}
    h = b.op(op, h, b.const(b.random(8, 8, 1, 1) * spread), b.const(np.zeros(8, np.float32)), **attrs, **more)
    h = b.op("clip", h, min=-6.0, max=6.0)
    b.origin = type(b.origin)("last")
    widened = (b.random(8, 8, 1, 1) / spread.reshape(1, -1, 1, 1)).astype(np.float32)
    graph = b.build([b.op("conv", h, b.const(widened), b.const(np.zeros(8, np.float32)), **attrs)])
    changes = {"rules": [{"match": "island", "scheme": "float"}], "equalize": False, "smooth": False, "never_slower": False}
    context = Context(target=cpu, samples=random_samples(graph, 8))
    program, _ = run_passes(graph, build_passes(load_recipe("w8a8").with_changes(changes), cpu), context)
    assert [n.op for n in program.nodes].count("quantize") == 2  # before the first and behind the island
    cpu.emit(program, tmp_path)
    seen = [OnnxSession(tmp_path / cpu.artefact, optimize=o).run(quantize_inputs(program, context.samples[0]))[0] for o in (True, False)]
    largest = np.abs(seen[1]).max()
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-3, atol=0.02 * largest)  # a code more or less
