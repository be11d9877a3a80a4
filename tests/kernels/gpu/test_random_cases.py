"""Kernels of every family in the emulator against the reference: a seeded part of `benchmarks/fuzz_gpu_kernels.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_kernels.run import ALL_FAMILIES, draw_case, one_of_each, run_cases
from qcompiler.errors import InternalError
from qcompiler.kernels.gpu import gemm
from qcompiler.kernels.gpu.emulator import CUDA, EmulationError, build
from qcompiler.kernels.gpu.launch import Buffer, Kernel, Launch, View, in_order, source
from qcompiler.kernels.gpu.nvcc import ARCHITECTURES, fatbin
from qcompiler.kernels.gpu.rescale import make_rescale
from qcompiler.kernels.gpu.run import emulate, read
from support.tools import requires_nvcc, requires_tool


def test_random_cases() -> None:
    requires_tool("g++")
    cases = [draw_case(family, seed) for family in ALL_FAMILIES for seed in (100, 101)]
    assert {c.family for c in cases} == set(ALL_FAMILIES)
    assert [(c.family, c.seed, what) for c, what in run_cases(cases)] == []


def test_every_kind_of_kernel_compiles_for_every_architecture(tmp_path: Path) -> None:
    requires_nvcc()
    launches = one_of_each()
    (tmp_path / "kernels.cu").write_text(source(launches))
    rows = fatbin(tmp_path / "kernels.cu", CUDA, tmp_path / "kernels.fatbin")
    assert {(r["kernel"], r["arch"]) for r in rows} == {(x.kernel.name, a) for x in launches for a in ARCHITECTURES}
    assert all(r["spill_bytes"] == 0 and r["shared_bytes"] <= 48 * 1024 for r in rows)
    text = " ".join(x.kernel.body for x in launches)
    for part in (
        "weight_only_rows<4", "weight_only_rows<8", "weight_only_tiles<4", "weight_only_tiles<8",
        "rows_gemm", "depthwise<int8_t, 4", "depthwise<int8_t, 1", "depthwise<int16_t", "max_pool", "sum_axes", "LOG2", "normalize<false>",
        "each<1>", "each<2>", "real_softmax", "real_normalize", "reduce<float", "reduce<int64_t", "along<", "real_tiles", "real_rows", "group_product", "tensor_range",
        "dynamic_codes<1>", "dynamic_codes<2>", "16, 4, true>", "16, 8, true>",
    ):  # fmt: skip
        assert part in text


def product(tile: gemm.Tile, m: int = 70, n: int = 130, k: int = 100) -> tuple[Launch, View, dict[Buffer, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(1)
    a, w = (rng.integers(-128, 128, s).astype(np.int8) for s in ((m, k), (n, k)))
    x = in_order(Buffer("x", a.nbytes), np.dtype(np.int8), a.shape)
    y = in_order(Buffer("y", m * n), np.dtype(np.int8), (m, n))
    rescale = make_rescale("dyadic", np.full(n, 1 << 30), np.full(n, 40), 3, -128, 127)
    launch = gemm.linear(x, gemm.pack_weights("w", w, None, 7), y, rescale, tile)
    acc = (a.astype(np.int64) - 7) @ w.astype(np.int64).T
    expected = np.clip(((acc << 30) + (1 << 39) >> 40) + 3, -128, 127)
    return launch, y, {x.buffer: a.reshape(-1).view(np.uint8)}, expected


def test_every_tile_gives_the_same_integers() -> None:
    requires_tool("g++")
    drawn = [product(tile) for tile in gemm.TILES]
    library = build(source([launch for launch, *_ in drawn]))
    assert len({launch.kernel.name for launch, *_ in drawn}) == len(gemm.TILES)
    for launch, y, memory, expected in drawn:
        emulate([launch], memory, library)
        assert np.array_equal(read(y, memory), expected), launch.kernel.name
        assert library.bank_conflicts == 0, launch.kernel.name
        assert 0.2 < (np.abs(expected) < 127).mean() < 1  # neither zeros nor all saturated


def test_a_missing_barrier_in_the_product_is_found(tmp_path: Path) -> None:
    """The emulator sees the defect that a device shows now and then: a tile read before all have written it."""
    requires_tool("g++")
    for header in CUDA.glob("*.cuh"):
        text = header.read_text()
        if header.name == "qc_gemm.cuh":
            assert text.count("__syncthreads();  // the tile is there") == 1
            text = text.replace("__syncthreads();  // the tile is there", ";  // the tile is there")
        (tmp_path / header.name).write_text(text)
    launch, _, memory, _ = product(gemm.TILES[3])
    try:
        emulate([launch], memory, build(source([launch]), tmp_path))
    except EmulationError as error:
        assert "shared array shared" in str(error) and "thread" in str(error) and launch.kernel.name in str(error)
    else:
        raise AssertionError("no race was reported")


def test_small_grids_take_small_tiles() -> None:
    assert gemm.choose_tile(4096, 4096, 1) == gemm.TILES[0]
    small = gemm.choose_tile(64, 64, 1)
    assert small.bm * small.bn < gemm.TILES[0].bm * gemm.TILES[0].bn


def test_two_kernels_of_one_name_are_refused() -> None:
    first, second = (Launch(Kernel("k", "qc_rows.cuh", "qc::Params", body, 32), (1, 1, 1), (), 1) for body in ("f(p)", "g(p)"))
    assert source([first, first]).count("QC_KERNEL") == 1
    with pytest.raises(InternalError, match="two CUDA kernels are named k"):
        source([first, second])
