"""What attention networks need: 16-bit codes, softmax, norms, tables, masks, embeddings, heads side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.ir import DType, Graph, QuantParams, Value
from qcompiler.targets.mcu.emit import emit_project, plan_program
from qcompiler.targets.mcu.parts import parse_part
from qcompiler.targets.mcu.runtime import HostSession
from qcompiler.targets.mcu.simulate import simulate
from qcompiler.targets.mcu.verify import verify_host
from support.integer_networks import IntegerLayers, int8
from support.tools import requires_tool

PROBABILITIES = QuantParams(DType.int8, np.float32(2.0**-8), np.int32(-128))
POWERS = QuantParams(DType.int16, np.float32(2.0**-14), np.int32(0))
VOCABULARY = 11


def int16(scale: float = 0.001) -> QuantParams:
    return QuantParams(DType.int16, np.float32(scale), np.int32(0))


class Layers(IntegerLayers):
    """Layers of attention networks."""

    def to(self, x: Value, quant: QuantParams, factor: float) -> Value:
        """Integers times a factor, as codes."""
        shift = 30 - int(np.floor(np.log2(factor)))
        m, s = (int(factor * 2.0**shift), shift) if self.rounding == "dyadic" else (1, shift - 30)
        given = dict(quant=quant, rounding=self.rounding, qmin=None, qmax=None)
        return self.op("requantize", x, self.const(np.int64(m)), self.const(np.int64(s)), **given)

    def norm(self, x: Value, quant: QuantParams, fraction: int = 0, bias: bool = True) -> Value:
        width = int(x.shape[-1])
        weight = self.const(self.rng.integers(-(1 << 28), 1 << 28, width).astype(np.int32))
        attrs = dict(quant=quant, eps=100, fraction=fraction, shift=52)
        if not bias:
            return self.op("integer_rms_norm", x, weight, **attrs)
        return self.op("integer_layer_norm", x, weight, self.const(self.rng.integers(-(1 << 56), 1 << 56, width)), **attrs)

    def sum16(self, a: Value, b: Value) -> Value:
        multipliers = (3 << 18, 1 << 20) if self.rounding == "dyadic" else (1, 2)
        return self.op(
            "requantize_sum", a, b, quant=int16(), rounding=self.rounding, multipliers=multipliers,
            shift=21 if self.rounding == "dyadic" else 2,
        )  # fmt: skip

    def exponentials(self, count: int = 300) -> Value:
        return self.const(np.rint(32767 * np.exp(-0.04 * np.arange(count))).astype(np.int16))

    def attention(self, x: Value, heads: int, mask: Value | None = None) -> Value:
        """int8 [B, T, D] to int8 [B, T, D]."""
        batch, tokens, width = (int(d) for d in x.shape)
        split = (batch, tokens, heads, width // heads)
        q, k, v = (
            self.op("transpose", self.op("reshape", self.linear(x, width), shape=split), perm=(0, 2, 1, 3)) for _ in range(3)
        )
        acc = self.op("matmul", q, self.op("transpose", k, perm=(0, 1, 3, 2)))
        p = self.op("softmax_lookup", self.to(acc, int16(0.1), 1 / 40), self.exponentials(), mask, quant=PROBABILITIES)
        mixed = self.to(self.op("matmul", p, v), int8(0.05, 4), 1 / 150)
        joined = self.op("reshape", self.op("transpose", mixed, perm=(0, 2, 1, 3)), shape=(batch, tokens, width))
        w = self.weights(width, width)
        m = np.full(width, 1 << 30)
        given = dict(quant=int16(), rounding=self.rounding, qmin=None, qmax=None)
        if self.rounding != "dyadic":
            m = np.ones(width)
        shift = self.const(np.full(width, 32 if self.rounding == "dyadic" else 2))
        return self.op("requantize", self.op("linear", joined, w, self.bias(width)), self.const(m.astype(np.int64)), shift, **given)


def inputs_of(graph: Graph, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = []
    for v in graph.inputs:
        low, high = (v.dtype.min, v.dtype.max + 1) if v.quant else (0, VOCABULARY if "ids" in v.name else 2)
        found.append(rng.integers(low, high, v.shape, np.int64).astype(v.dtype.numpy))
    return found


def check(graph: Graph, seeds: int = 3) -> HostSession:
    requires_tool("gcc", "cc", "clang")
    session = HostSession(graph, options=("-fsanitize=undefined", "-fno-sanitize-recover=all"))
    found = verify_host(graph, session, [inputs_of(graph, seed) for seed in range(seeds)])
    assert found.failures == () and found.differing == 0
    assert session.plan.arena.plan.ratio <= 1.05
    return session


def encoder(rounding: str = "dyadic", tokens: int = 6) -> Graph:
    """Embedding, one block with a padding mask and a causal one, mean, classifier."""
    b = Layers("encoder", rounding=rounding)
    ids = b.input("ids", DType.int64, (1, tokens))
    given = b.input("attention_mask", DType.int64, (1, tokens))
    rows = b.op("gather", b.const(b.rng.integers(-127, 128, (VOCABULARY, 8)), quant=int8(1.0)), ids, axis=0)
    scales = b.op("gather", b.const(b.rng.integers(1, 32767, (VOCABULARY, 1)), quant=int16(1e-6)), ids, axis=0)
    x = b.to(b.op("integer_mul", rows, scales), int16(), 1 / 200)
    x = b.sum16(x, b.const(b.rng.integers(-30000, 30000, (1, tokens, 8)), quant=int16()))
    padding = b.op("reshape", b.op("cast", given, dtype=DType.bool), shape=(1, 1, 1, tokens))
    at = b.op("arange", stop=tokens)
    mask = b.op("logical_and", padding, b.op("greater_equal", b.op("reshape", at, shape=(tokens, 1)), at))
    x = b.sum16(x, b.attention(b.norm(x, int8(0.02, -3)), 2, mask))
    table = b.const(b.rng.integers(-32768, 32768, 256).astype(np.int16))
    hidden = b.op("lookup", b.linear(b.norm(x, int8(0.02)), 12), table, quant=int16(1e-4))
    smooth = b.const(b.rng.integers(1, 32767, 12), quant=int16(1e-4))
    hidden = b.to(b.op("integer_mul", hidden, smooth), int8(0.1, -100), 1e-7)
    x = b.sum16(x, b.linear(hidden, 8))
    pooled = b.op("reduce_mean", b.norm(x, int16(), 4), axes=(1,), keepdims=False)
    factor = b.const(np.int64(1431655765)), b.const(np.int64(39))
    pooled = b.op("requantize", pooled, *factor, quant=int8(0.02), rounding="dyadic", qmin=None, qmax=None)
    return b.graph(b.linear(pooled, 5), names=("logits",))


@pytest.mark.parametrize("rounding", ["dyadic", "shift_half_even"])
def test_encoder_with_masks(rounding: str) -> None:
    session = check(encoder(rounding))
    functions = [s.function for s in session.plan.program.steps]
    assert "qc_transpose" not in functions  # heads are strides of the products
    assert functions.count("qc_matmul_s8") == 2 and functions.count("qc_gather_rows") == 2
    ids = np.full((1, 6), 2**40)
    with pytest.raises(UsageError, match="32 bits"):
        session.run([ids, np.ones((1, 6), np.int64)])


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m55"])
def test_encoder_on_a_core(core: str, tmp_path: Path) -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make", "gcc"):
        requires_tool(tool)
    graph, part = encoder(), parse_part(core, "")
    emit_project(graph, part, tmp_path)
    found = simulate(graph, part, tmp_path, [inputs_of(graph, seed) for seed in range(3)])
    assert (found.differing, found.samples) == (0, 3)
    assert found.predicted == {"flash_bytes": found.flash_bytes, "ram_bytes": found.ram_bytes}
    assert all(layer.instructions > 0 for layer in found.layers)


def test_softmaxes_and_masks_of_every_shape() -> None:
    b = Layers("softmax")
    scores, wide = b.codes("scores", 2, 3, 4, 5), b.input("wide", DType.int16, (2, 3, 4, 5), int16())
    masks = [b.op("cast", b.input(f"mask{i}", DType.int64, s), dtype=DType.bool) for i, s in enumerate(
        [(5,), (4, 5), (2, 1, 1, 5), (2, 1, 4, 5), (2, 3, 4, 5), (1, 3, 4, 5)]
    )]
    found = [b.op("softmax_lookup", scores, b.exponentials(), m, quant=PROBABILITIES) for m in masks]
    found += [b.op("softmax_lookup", x, b.exponentials(40), quant=PROBABILITIES) for x in (scores, wide)]
    found += [b.op("shiftmax", x, m, quant=PROBABILITIES, unit=20, bits=15) for x, m in ((scores, masks[0]), (wide, None))]
    found += [b.op("log2_softmax", x, b.exponentials(), m, quant=POWERS) for x, m in ((scores, None), (wide, masks[2]))]
    check(b.graph(*found))


def test_functions_of_codes_of_any_width() -> None:
    b = Layers("functions")
    x, wide = b.codes("x", 2, 7), b.input("wide", DType.int16, (2, 7), int16())
    knots = b.const(b.rng.integers(-32768, 32768, 257).astype(np.int16))
    found = [b.op("lookup_interpolated", wide, knots, quant=q, shift=s) for q, s in ((int16(), 8), (int8(0.1, 3), 16))]
    found += [
        b.to(b.op("shift_sigmoid", v, unit=u, bits=12, gate_bits=15, form=form), q, f)
        for v, u in ((x, 30), (wide, 800))
        for form, q, f in (("sigmoid", int8(1 / 256, -128), 1 / 128), ("tanh", int16(), 0.9), ("gated", int16(), 1 / 40000))
    ]
    found += [b.norm(v, q, 2, bias) for v in (x, wide) for q in (int8(0.1, 5), int16()) for bias in (True, False)]
    found += [b.to(v, q, f) for v, q, f in ((x, int16(), 200.0), (wide, int8(0.1), 0.01), (wide, int16(), 0.7))]
    found += [b.to(b.op("reduce_mean", wide, axes=(1,), keepdims=True), q, 0.01) for q in (int8(0.1), int16())]
    check(b.graph(*found))


def test_operands_that_are_broadcast() -> None:
    """Over rows, over columns, one number; of one and of two widths."""
    b = Layers("broadcast")
    x, wide = b.codes("x", 1, 4, 6), b.input("wide", DType.int16, (1, 4, 6), int16())
    row, column, one = b.codes("row", 6), b.input("column", DType.int16, (4, 1), int16()), b.codes("one", 1)
    found = [b.to(b.op("integer_mul", *pair), int16(), 1e-2) for pair in ((wide, column), (row, x), (one, wide), (x, column))]
    found += [b.sum16(x, row), b.sum16(column, wide), b.add(x, one), b.sum16(wide, wide)]
    check(b.graph(*found))
    other = Layers("middle")
    y = other.op("integer_mul", other.codes("y", 2, 3, 4), other.codes("z", 1, 3, 1))
    with pytest.raises(UnsupportedError, match="not together in memory"):
        plan_program(other.graph(other.to(y, int16(), 0.01)), parse_part("host-c", ""))


def test_several_samples_with_heads() -> None:
    """Two samples of two heads: matrices that are not equally far apart are moved first."""
    b = Layers("samples")
    check(b.graph(b.attention(b.codes("x", 2, 5, 8), 2)))


def test_rows_of_an_activation() -> None:
    """Heads shared by several queries: a gather along an axis in the middle."""
    b = Layers("groups")
    x = b.linear(b.codes("x", 2, 3, 4), 4)
    check(b.graph(b.op("gather", x, b.const(np.array([2, 0, 0, 1, -1])), axis=1)))
