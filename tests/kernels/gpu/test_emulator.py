"""The emulator finds what a GPU does not forgive, and says where."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import InternalError, MissingToolError
from qcompiler.kernels.gpu import emulator
from qcompiler.kernels.gpu.emulator import EmulatedLibrary, EmulationError, Region, build
from support.tools import requires_tool

SOURCE = """
#include "qc_device.cuh"
struct P { const int32_t *x; int32_t *y; int32_t n; int32_t flag; };

// Neighbours exchange through shared memory; flag 0 leaves the barrier out.
QC_KERNEL(exchange, 64, P)
{
    QC_SHARED(int32_t, tile, 64);
    tile[threadIdx.x] = p.x[threadIdx.x];
    if (p.flag)
        __syncthreads();
    p.y[threadIdx.x] = tile[threadIdx.x ^ 33];
}

// Lanes of one warp exchange; flag 0 leaves the barrier of the warp out.
QC_KERNEL(exchange_in_warp, 64, P)
{
    QC_SHARED(int32_t, tile, 64);
    tile[threadIdx.x] = p.x[threadIdx.x];
    if (p.flag)
        __syncwarp();
    p.y[threadIdx.x] = tile[threadIdx.x ^ 1];
}

// All read what one wrote before; it writes again without waiting.
QC_KERNEL(overwrite, 64, P)
{
    QC_SHARED(int32_t, tile, 64);
    tile[threadIdx.x] = p.x[threadIdx.x];
    __syncthreads();
    const int32_t v = tile[(threadIdx.x + 40) % 64];
    if (p.flag)
        __syncthreads();
    tile[threadIdx.x] = 0;
    p.y[threadIdx.x] = v;
}

QC_KERNEL(copy, 64, P)
{
    const unsigned i = blockIdx.x * 64 + threadIdx.x;
    if ((int)i < p.n)
        p.y[i] = p.x[i];
}

QC_KERNEL(shared_end, 64, P)
{
    QC_SHARED(int32_t, first, 60);
    QC_SHARED(int32_t, second, 64);
    second[threadIdx.x] = 1;
    first[threadIdx.x] = second[threadIdx.x];
    p.y[threadIdx.x] = first[threadIdx.x];
}

QC_KERNEL(unwritten_shared, 64, P)
{
    QC_SHARED(int32_t, tile, 64);
    if (threadIdx.x < 63)
        tile[threadIdx.x] = 1;
    p.y[threadIdx.x] = tile[threadIdx.x];
}

// flag: groups of asynchronous copies that may still be under way
QC_KERNEL(asynchronous, 64, P)
{
    QC_SHARED(int32_t, tile, 64);
    qc::copy_async<4>(tile + threadIdx.x, p.x + threadIdx.x);
    qc::copy_commit();
    if (p.flag == 0)
        qc::copy_wait<0>();
    __syncthreads();
    p.y[threadIdx.x] = tile[63 - threadIdx.x];
    qc::copy_wait<0>();
}

QC_KERNEL(never_waited, 64, P)
{
    QC_SHARED(int32_t, tile, 64);
    qc::copy_async<4>(tile + threadIdx.x, p.x + threadIdx.x);
    p.y[threadIdx.x] = 0;
}

QC_KERNEL(divergent_shuffle, 64, P)
{
    int32_t v = 0;
    if (threadIdx.x % 2)
        v = __shfl_xor_sync(qc::ALL, p.x[threadIdx.x], 1);
    p.y[threadIdx.x] = v;
}

QC_KERNEL(left_barrier, 64, P)
{
    p.y[threadIdx.x] = 0;
    if (threadIdx.x == 7)
        return;
    __syncthreads();
}

QC_KERNEL(same_element, 64, P) { p.y[threadIdx.x / 2] = p.x[threadIdx.x]; }
QC_KERNEL(writes_operand, 64, P) { ((int32_t *)p.x)[threadIdx.x] = p.y[threadIdx.x]; }
QC_KERNEL(misaligned, 32, P) { qc::store_vector(p.y + 1 + 4 * threadIdx.x, int4{1, 2, 3, 4}); }
// flag: bytes between the rows of matrices
QC_KERNEL(matrices, 32, P)
{
    QC_SHARED(int32_t, tile, 32 * 32);
    for (int i = threadIdx.x; i < 32 * 32; i += 32)
        tile[i] = i;
    __syncthreads();
    const uint4 r = qc::load_matrices((const char *)tile + threadIdx.x * p.flag);
    p.y[threadIdx.x] = r.x + r.w;
}
// bits of float32 to bits of float16 and back
QC_KERNEL(halves, 64, P)
{
    const unsigned i = blockIdx.x * 64 + threadIdx.x;
    float v;
    __builtin_memcpy(&v, p.x + i, 4);
    v = p.flag ? qc_emu_half_to_float((uint16_t)p.x[i]) : (float)qc_emu_float_to_half(v);
    __builtin_memcpy(p.y + i, &v, 4);
}
QC_KERNEL(reverse_warp, 64, P) { p.y[threadIdx.x] = __shfl_sync(qc::ALL, p.x[threadIdx.x], 31 - int(threadIdx.x % 32)); }
"""


@pytest.fixture(scope="module")
def library() -> EmulatedLibrary:
    requires_tool("g++")
    return build(SOURCE)


def launch(library: EmulatedLibrary, kernel: str, *, size: int = 64, n: int = 64, flag: int = 1, grid: int = 1, threads: int = 64) -> np.ndarray:
    x, y = np.arange(size, dtype=np.int32), np.full(size, -1, np.int32)
    regions = [Region("operand", x.view(np.uint8), "read"), Region("result", y.view(np.uint8), "write")]
    library.launch(kernel, (grid, 1, 1), (threads, 1, 1), lambda places: struct.pack("<QQii", *places, n, flag), regions)
    return y


def test_barriers_order_accesses(library: EmulatedLibrary) -> None:
    expected = np.arange(64) ^ 33
    assert np.array_equal(launch(library, "exchange"), expected)
    assert np.array_equal(launch(library, "exchange_in_warp"), np.arange(64) ^ 1)
    assert np.array_equal(launch(library, "overwrite"), (np.arange(64) + 40) % 64)


def test_results_of_correct_kernels(library: EmulatedLibrary) -> None:
    assert np.array_equal(launch(library, "copy", size=150, n=150, grid=3), np.arange(150))
    assert np.array_equal(launch(library, "asynchronous", flag=0), np.arange(63, -1, -1))
    assert np.array_equal(launch(library, "reverse_warp"), np.arange(64).reshape(2, 32)[:, ::-1].ravel())


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("exchange", r"kernel exchange: thread \(\d+,0,0\) of block \(0,0,0\) .*shared array tile.*(written|no thread)"),
        ("exchange_in_warp", r"kernel exchange_in_warp: thread .* races at byte \d+ of shared array tile, which has 256 bytes: written by thread|no thread"),
        ("overwrite", r"kernel overwrite: thread .* races at .* shared array tile.*: (read|written) by thread \(\d+,0,0\)"),
    ],
)
def test_missing_barriers_are_races(library: EmulatedLibrary, kernel: str, message: str) -> None:
    with pytest.raises(EmulationError, match=message):
        launch(library, kernel, flag=0)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("shared_end", r"thread \(60,0,0\).* writes out of bounds: byte 240 of shared array first, which has 240 bytes"),
        ("unwritten_shared", r"thread \(63,0,0\).* reads at byte 252 of shared array tile.*that no thread of the block has written"),
        ("asynchronous", r"shared array tile.*the asynchronous copy of thread .* has not been waited for"),
        ("never_waited", r"ends while asynchronous copies are under way"),
        ("divergent_shuffle", r"warp-wide instruction was reached by 16 lanes .* 16 have ended"),
        ("left_barrier", r"thread \(7,0,0\).* has ended while others wait at __syncthreads"),
        ("same_element", r"thread \(1,0,0\).* races at byte 0 of buffer result.*written by another thread"),
        ("writes_operand", r"writes byte 0 of buffer operand, which has 256 bytes and may only be read"),
        ("misaligned", r"16 bytes at an address that is not aligned"),
    ],
)
def test_defects_are_named(library: EmulatedLibrary, kernel: str, message: str) -> None:
    with pytest.raises(EmulationError, match=rf"kernel {kernel}: .*{message}"):
        launch(library, kernel, threads=32 if kernel == "misaligned" else 64)


def test_global_bounds(library: EmulatedLibrary) -> None:
    with pytest.raises(EmulationError, match=r"thread \(36,0,0\) of block \(1,0,0\) reads out of bounds: byte 400 of buffer operand, which has 400 bytes"):
        launch(library, "copy", size=100, n=128, grid=2)


def test_results_that_are_not_written(library: EmulatedLibrary) -> None:
    with pytest.raises(EmulationError, match="kernel copy: leaves 40 bytes unwritten, the first is byte 216 of buffer result"):
        launch(library, "copy", n=54)


def test_too_many_threads(library: EmulatedLibrary) -> None:
    with pytest.raises(EmulationError, match="a block has 1 to 1024 threads, not 1025"):
        launch(library, "copy", threads=1025)


def test_matrix_loads_count_bank_conflicts(library: EmulatedLibrary) -> None:
    before = library.bank_conflicts
    lane = np.arange(32)
    got = launch(library, "matrices", size=32, flag=16, threads=32)
    assert np.array_equal(got, lane + (96 + lane)) and library.bank_conflicts == before
    launch(library, "matrices", size=32, flag=128, threads=32)  # all rows in the same banks
    assert library.bank_conflicts == before + 4 * 7


def test_float16_is_numpys(library: EmulatedLibrary) -> None:
    """All finite values, numbers halfway between them, and numbers beyond both ends."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    real = bits.view(np.float16).astype(np.float32)
    finite = bits[np.isfinite(real)]
    assert np.array_equal(converted(library, finite.astype(np.int32), 1), real[finite])
    ordered = np.sort(real[finite])
    rng = np.random.default_rng(0)
    numbers = np.concatenate([ordered[::3], [0.0, -0.0], (ordered[1:] + ordered[:-1])[::5] / 2, rng.standard_normal(5000) * 2.0 ** rng.integers(-28, 17, 5000)])
    numbers = numbers.astype(np.float32)
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16).view(np.uint16)
    assert np.array_equal(converted(library, numbers.view(np.int32), 0), expected)


def converted(library: EmulatedLibrary, x: np.ndarray, flag: int) -> np.ndarray:
    padded = np.zeros(-(-len(x) // 64) * 64, np.int32)
    padded[: len(x)] = x
    y = np.zeros(len(padded), np.float32)
    regions = [Region("operand", padded.view(np.uint8), "read"), Region("result", y.view(np.uint8), "write")]
    blocks = len(padded) // 64
    library.launch("halves", (blocks, 1, 1), (64, 1, 1), lambda places: struct.pack("<QQii", *places, len(x), flag), regions)
    return y[: len(x)]


def test_compiled_kernels_are_kept_and_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requires_tool("g++")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(emulator, "MOST_KEPT", 1)
    monkeypatch.setattr(emulator, "_built", {})
    kept = tmp_path / "qcompiler" / "emulator"
    kernel = '#include "qc_device.cuh"\nstruct P {{ int32_t *y; }};\nQC_KERNEL(store, 32, P) {{ p.y[threadIdx.x] = {}; }}\n'
    for value in range(3):
        library = build(kernel.format(value))
        y = np.zeros(32, np.int32)
        library.launch("store", (1, 1, 1), (32, 1, 1), lambda p: struct.pack("<Q", *p), [Region("y", y.view(np.uint8), "write")])
        assert (y == value).all()
    newest = {f.name for f in kept.glob("*.so")}
    assert len(newest) == 2 and len(list(kept.glob("*.o"))) == 1
    monkeypatch.setattr(emulator, "_built", {})
    monkeypatch.setattr(emulator, "_compile", lambda *_: pytest.fail("it was compiled before"))
    build(kernel.format(2))


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert emulator.cache_folder().is_dir() and not emulator.cache_folder().is_relative_to(tmp_path)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator.shutil, "which", lambda _: None)
    with pytest.raises(MissingToolError, match=r"g\+\+, which is not installed: apt-get install g\+\+"):
        build(SOURCE)


def test_sources_that_do_not_compile() -> None:
    requires_tool("g++")
    with pytest.raises(InternalError, match="(?s)do not compile for the emulator.*undeclared_thing"):
        build('#include "qc_device.cuh"\nint f() { return undeclared_thing; }\n')
