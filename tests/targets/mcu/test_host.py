"""The C project on the host: the reference's integers, output by output and call by call."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import UsageError, VerificationError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, QuantParams
from qcompiler.targets.mcu import host_build
from qcompiler.targets.mcu.emit import emit_project
from qcompiler.targets.mcu.parts import parse_part
from qcompiler.targets.mcu.runtime import HostSession, open_folder
from qcompiler.targets.mcu.verify import verify_host
from support.integer_networks import IntegerLayers, int8, random_codes, residual_network
from support.tools import requires_tool

HOST = parse_part("host-c", "")


def check(graph: Graph, seeds: range = range(3)) -> HostSession:
    requires_tool("gcc", "cc", "clang")
    session = HostSession(graph)
    found = verify_host(graph, session, [random_codes(graph, seed) for seed in seeds])
    assert found.failures == () and found.differing == 0
    assert sum(c.values for c in found.ops["host build"]) > 0
    return session


@pytest.mark.parametrize("rounding", ["dyadic", "shift_half_even"])
def test_network_with_residuals(rounding: str) -> None:
    session = check(residual_network(rounding=rounding))
    functions = [step.function for step in session.plan.program.steps]
    assert functions.count("qc_conv2d_add_s8") == 2  # the residual sums are part of convolutions
    assert "qc_add_s8" not in functions and "qc_depthwise_conv2d_s8" in functions
    assert session.plan.arena.plan.ratio <= 1.05


def test_movement() -> None:
    """Concat, slice with and without a step, transpose, reshape, pad, resize, expand, max pool."""
    b = IntegerLayers("movement")
    image = b.codes("image", 1, 4, 6, 8)
    x = b.conv(image, 6)
    y = b.op("max_pool", b.conv(image, 6), kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1))
    y = b.op("resize", y, size=(6, 8), mode="nearest")
    z = b.op("concat", x, y, b.rescale(image, 1, peak=2), axis=1)
    z = b.op("slice", z, axis=1, start=2, stop=13, step=1)
    z = b.op("pad", b.op("slice", z, axis=3, start=1, stop=8, step=3), pads=(0, 0, 1, 2, 0, 0, 0, 1), mode="constant", value=0.0)
    tokens = b.op("transpose", b.op("reshape", z, shape=(1, 11, 42)), perm=(0, 2, 1))
    rows = b.linear(tokens, 5)
    wide = b.op("expand", b.op("slice", rows, axis=1, start=40, stop=42, step=1), shape=(3, 2, 5))
    check(b.graph(rows, b.op("transpose", z, perm=(2, 0, 3, 1)), wide))


def test_flips() -> None:
    """Along the axes of an image that lies channels last, and of rows of 16 bits."""
    b = IntegerLayers("flips")
    image = b.conv(b.codes("image", 2, 3, 4, 5), 6)
    wide = b.input("wide", DType.int16, (2, 3, 4), QuantParams(DType.int16, np.float32(0.001)))
    check(b.graph(b.op("flip", image, axes=(1,)), b.op("flip", image, axes=(-1, 2)), b.op("flip", wide, axes=(0, 2))))


def test_choices() -> None:
    """By constant masks of pixels and of channels, by computed ones that repeat; single numbers; 16 bits."""
    b = IntegerLayers("choices")
    image = b.conv(b.codes("image", 1, 3, 4, 6), 5)
    other = b.op("flip", image, axes=(3,))
    zero = b.const(np.int8(-7), quant=image.quant, name="zero")
    pixels = b.const(b.rng.integers(0, 2, (4, 6)).astype(bool), name="pixels")
    channels = b.const(b.rng.integers(0, 2, (5, 1, 1)).astype(bool), name="channels")
    truth = b.input("chosen", DType.bool, (1, 1, 4, 6))
    quant = QuantParams(DType.int16, np.float32(0.001))
    wide, few = b.input("wide", DType.int16, (2, 3, 4), quant), b.input("few", DType.int16, (3, 4), quant)
    every = b.input("every", DType.bool, (2, 3, 4))
    results = [(pixels, image, zero), (channels, other, image), (truth, zero, other), (every, few, wide)]
    check(b.graph(*(b.op("where", *operands) for operands in results)))


def test_a_scale_per_channel_is_no_window() -> None:
    b = IntegerLayers("scale")
    image = b.conv(b.codes("image", 2, 3, 4, 6), 5)
    session = check(b.graph(b.conv(image, 5, kernel=1, groups=5), b.conv(image, 5, kernel=1, groups=5, stride=2)))
    functions = [step.function for step in session.plan.program.steps]
    assert functions.count("qc_scale_channels_s8") == 1 and functions.count("qc_depthwise_conv2d_s8") == 1


def test_nearest_neighbours() -> None:
    """Larger and smaller, by whole factors of each axis or none; a signal; 16 bits."""
    b = IntegerLayers("nearest")
    image = b.conv(b.codes("image", 2, 3, 4, 6), 5)
    wide = b.input("wide", DType.int16, (1, 3, 5, 4), QuantParams(DType.int16, np.float32(0.001)))
    signal = b.codes("signal", 1, 3, 6)
    sizes = [(image, (8, 9)), (image, (2, 18)), (image, (4, 3)), (wide, (7, 8)), (signal, (4,)), (signal, (6,))]
    check(b.graph(*(b.op("resize", x, size=size, mode="nearest") for x, size in sizes)))


@pytest.mark.parametrize("wide", [False, True])
def test_tables_of_bytes(wide: bool) -> None:
    """An input of uint8 goes through a table as it lies in the caller's memory, channels last for a convolution."""
    b = IntegerLayers("bytes")
    quant = QuantParams(DType.int16, np.float32(0.01)) if wide else int8(0.02, -3)
    image = b.input("image", DType.uint8, (1, 3, 4, 5))
    table = b.const(b.rng.integers(-128, 128, 256).astype(quant.dtype.numpy), name="table")
    codes = b.op("lookup", image, table, quant=quant)
    session = check(b.graph(codes if wide else b.conv(codes, 4)))
    (tensor,) = session.plan.program.inputs
    assert tensor.c_type == "uint8_t" and tensor.order == ((0, 1, 2, 3) if wide else (0, 2, 3, 1))


def test_windows_of_16_bit_codes() -> None:
    """Pools with padding, in place without, over one axis; the largest of whole axes."""
    b = IntegerLayers("wide")
    wide = b.input("wide", DType.int16, (1, 5, 6, 8), QuantParams(DType.int16, np.float32(0.001)))
    padded = b.op("max_pool", wide, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1))
    apart = b.op("max_pool", padded, kernel=(1, 2), strides=(1, 2), pads=(0,) * 4)
    session = check(b.graph(apart, b.op("reduce_max", wide, axes=(2, 3), keepdims=False)))
    assert {step.function for step in session.plan.program.steps} >= {"qc_max_pool_s16"}
    assert "qc_max_pool_s8" not in {step.function for step in session.plan.program.steps}


def test_permutations_of_more_axes_than_the_kernel_has_loops() -> None:
    """Sub-pixel convolution: phases move to the spatial axes; and all axes at once."""
    b = IntegerLayers("phases")
    x = b.conv(b.codes("image", 1, 3, 3, 5), 24)
    phases = b.op("transpose", b.op("reshape", x, shape=(1, 4, 2, 3, 3, 5)), perm=(0, 1, 4, 2, 5, 3))
    y = b.op("reshape", phases, shape=(1, 4, 6, 15))
    turned = b.op("transpose", b.op("reshape", b.codes("rows", 2, 360), shape=(2, 3, 2, 3, 4, 5)), perm=(4, 1, 5, 0, 3, 2))
    session = check(b.graph(b.conv(y, 3), b.op("reshape", turned, shape=(720,))))
    assert [step.function for step in session.plan.program.steps].count("qc_transpose") >= 4


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_padding_that_repeats_the_border(mode: str) -> None:
    b = IntegerLayers("border")
    image = b.conv(b.codes("image", 2, 3, 4, 5), 6)
    tokens = b.codes("tokens", 1, 5, 4)
    around = b.op("pad", image, pads=(0, 0, 2, 0, 0, 0, 1, 3), mode=mode, value=0.0)
    check(b.graph(b.conv(around, 4), b.op("pad", tokens, pads=(0, 1, 0, 0, 3, 2), mode=mode, value=0.0)))


def test_largest_codes_along_axes() -> None:
    b = IntegerLayers("maxima")
    image = b.conv(b.codes("image", 2, 3, 4, 6), 5)
    tokens = b.codes("tokens", 1, 7, 4)
    over = [(image, (2, 3), False), (image, (1,), True), (tokens, (1,), False), (tokens, (-1,), True)]
    check(b.graph(*(b.op("reduce_max", x, axes=axes, keepdims=keep) for x, axes, keep in over)))


def test_flatten_reorders_the_weights_instead_of_the_image() -> None:
    b = IntegerLayers("flatten")
    x = b.conv(b.codes("image", 1, 3, 4, 4), 5)
    session = check(b.graph(b.linear(b.op("reshape", x, shape=(1, 80)), 7)))
    assert [s.function for s in session.plan.program.steps] == ["qc_conv2d_s8", "qc_fully_connected_s8"]


def test_attention_products() -> None:
    b = IntegerLayers("attention")
    x = b.codes("tokens", 1, 5, 8)
    q, k, v = (b.op("transpose", b.op("reshape", b.linear(x, 8), shape=(1, 5, 2, 4)), perm=(0, 2, 1, 3)) for _ in range(3))
    scores = b.rescale(b.op("matmul", q, b.op("transpose", k, perm=(0, 1, 3, 2))), 4)
    mixed = b.rescale(b.op("matmul", scores, v), 5)
    out = b.op("reshape", b.op("transpose", mixed, perm=(0, 2, 1, 3)), shape=(1, 5, 8))
    check(b.graph(b.add(x, b.linear(out, 8))))


def test_means() -> None:
    b = IntegerLayers("means")
    image = b.conv(b.codes("image", 1, 3, 4, 6), 5)
    tokens = b.linear(b.codes("tokens", 1, 7, 4), 4)
    check(
        b.graph(
            b.mean(image), b.mean(image, keepdims=True), b.mean(tokens, (1,)), b.mean(tokens, (2,), True), b.mean(image, (1,))
        )
    )


def test_average_pooling_that_was_lowered_to_a_convolution() -> None:
    b = IntegerLayers("pool")
    x = b.conv(b.codes("image", 1, 3, 6, 6), 5)
    ones = b.const(np.ones((5, 1, 3, 3), np.int8), quant=int8(1 / 9))
    acc = b.op("conv", x, ones, None, strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1), groups=5)
    session = check(b.graph(b.rescale(acc, 9, 4, peak=3)))
    assert [step.function for step in session.plan.program.steps] == ["qc_conv2d_s8", "qc_avg_pool_s8"]


def test_tables_and_products_of_activations() -> None:
    b = IntegerLayers("gates")
    x = b.conv(b.codes("image", 1, 3, 4, 4), 6)
    table = b.const(b.rng.integers(-128, 128, 256).astype(np.int8))
    gate = b.op("lookup", b.mean(x, keepdims=True), table, quant=int8(1 / 128, 5))
    gated = b.rescale(b.op("integer_mul", x, gate), 1, 3)
    check(b.graph(gated, b.rescale(b.op("integer_mul", x, gated), 1)))


def test_sums_with_broadcasting_and_constants() -> None:
    b = IntegerLayers("sums")
    x = b.codes("x", 1, 5, 6)
    y = b.add(x, b.const(b.rng.integers(-128, 128, (1, 5, 6)), quant=x.quant))
    z = b.add(b.const(b.rng.integers(-128, 128, (6,)), quant=x.quant), y)
    check(b.graph(b.add(z, b.linear(x, 6)), z))


def test_grouped_one_dimensional_dilated_and_four_bit_layers() -> None:
    b = IntegerLayers("shapes")
    signal = b.conv(b.codes("signal", 1, 4, 20), 6, 5, 2)
    image = b.codes("image", 1, 4, 7, 9)
    w = b.weights(8, 2, 3, 2)
    acc = b.op("conv", image, w, None, strides=(2, 1), pads=(2, 0, 1, 1), dilations=(2, 1), groups=2)
    small = b.conv(b.conv(image, 5, bits=4), 6, groups=1, bits=4)
    check(b.graph(signal, b.rescale(acc, 12), b.linear(b.op("reshape", small, shape=(1, 378)), 3, bits=4)))


def test_several_images_at_once() -> None:
    b = IntegerLayers("batch")
    x = b.conv(b.conv(b.codes("images", 3, 3, 6, 6), 8), 8, groups=8)
    check(b.graph(b.linear(b.mean(x), 4)))


def test_inputs_and_outputs_that_are_the_same_value() -> None:
    b = IntegerLayers("aliases")
    x = b.codes("x", 1, 6)
    y = b.linear(x, 6)
    check(b.graph(y, b.op("reshape", y, shape=(6,)), x, y))


def test_residual_that_is_needed_again() -> None:
    """A skip connection over two blocks: nothing may be written over it in between."""
    b = IntegerLayers("long_skip")
    x = b.conv(b.codes("image", 1, 3, 5, 5), 4)
    y = b.add(x, b.conv(x, 4))
    z = b.add(y, b.conv(y, 4))
    check(b.graph(b.add(x, z)))


@pytest.mark.parametrize("rounding", ["dyadic", "shift_half_even"])
def test_host_project_and_its_self_check(tmp_path: Path, rounding: str) -> None:
    """What is saved is what runs, and the project's own Makefile and self-check agree."""
    make = requires_tool("make")
    graph = residual_network(1, rounding)
    emission = emit_project(graph, HOST, tmp_path)
    assert all(path.is_file() for path in emission.files)
    session = open_folder(tmp_path, HOST)
    arrays = random_codes(graph, 7)
    assert np.array_equal(session.run(arrays)[0], run_reference(graph, arrays)[0])
    done = subprocess.run([make, "-s", "check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "PASS 2 vectors, 0 bytes differ\n")


def test_self_check_notices_a_wrong_integer(tmp_path: Path) -> None:
    make = requires_tool("make")
    emit_project(residual_network(), HOST, tmp_path)
    source = tmp_path / "model.c"
    text = source.read_text()
    assert ".zero_point = 3," in text
    source.write_text(text.replace(".zero_point = 3,", ".zero_point = 4,"))
    done = subprocess.run([make, "-s", "check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and done.stdout.startswith("FAIL 2 vectors, ")
    session = open_folder(tmp_path, HOST)
    found = verify_host(session.graph, session, [random_codes(session.graph)])
    assert found.differing > 0
    with pytest.raises(VerificationError, match="head"):
        found.check()


def test_undefined_behaviour_and_bounds(tmp_path: Path) -> None:
    """The self-check under the address and undefined-behaviour sanitizers."""
    make = requires_tool("make")
    emit_project(residual_network(2), HOST, tmp_path)
    sanitize = "-fsanitize=address,undefined -fno-sanitize-recover=all"
    flags = f"CFLAGS={sanitize} -g -O1 -std=c99 -Wall -Wextra -Werror -Wconversion"
    command = [make, "-s", "check", flags, f"CC={requires_tool('gcc')} {sanitize}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "PASS 2 vectors, 0 bytes differ\n"), done.stderr[-2000:]


def test_equal_projects_are_compiled_once_and_share_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    requires_tool("gcc", "cc", "clang")
    graph = residual_network(seed=11)
    compiled = []
    real = host_build.call
    monkeypatch.setattr(host_build, "call", lambda command, *rest: compiled.append(command) or real(command, *rest))
    first, second = HostSession(graph), HostSession(graph)
    assert len(compiled) == 1
    assert first._library._name != second._library._name  # each has an arena of its own
    HostSession(graph, options=("-O1",))
    assert len(compiled) == 2


def test_wrong_inputs_are_named() -> None:
    session = check(residual_network(), range(1))
    with pytest.raises(UsageError, match="image.*int8"):
        session.run([np.zeros((1, 3, 12, 12), np.float32)])


def test_equal_graphs_give_equal_bytes(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emission = emit_project(residual_network(), parse_part("cortex-m4", ""), tmp_path / name)
        texts.append({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in emission.files})
    assert texts[0] == texts[1]


def test_codes_of_the_whole_range_are_drawn() -> None:
    drawn = random_codes(residual_network())[0]
    assert (drawn.min(), drawn.max(), drawn.dtype) == (-128, 127, DType.int8.numpy)
