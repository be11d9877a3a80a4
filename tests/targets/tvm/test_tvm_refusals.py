"""What is refused, and how: versions, names, kernels without a schedule, shapes, damaged and foreign files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qcompiler.coverage import refuse_slow
from qcompiler.errors import ConstraintError, MissingToolError, UnsupportedError, UsageError
from qcompiler.ir import DType, GraphBuilder, Level, QuantParams
from qcompiler.ir.dims import symbol
from qcompiler.targets import get_target
from qcompiler.targets.tvm import version
from support.integer_networks import IntegerLayers, int8, random_codes
from support.tvm_programs import session_of

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"apache-tvm": "", "apache-tvm-ffi": ""}, "needs TVM, which is not installed: pip install apache-tvm==0.27"),
        ({"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.15.post2"}, "0.1.15.post2 .needs 0.1.14.post1.*pip install"),
        ({"apache-tvm": "0.26.0", "apache-tvm-ffi": "0.1.14.post1"}, "apache-tvm 0.26.0 .needs"),
    ],
)
def test_versions(found: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed", lambda: found)
    with pytest.raises(MissingToolError, match=message):
        version.require_tvm.__wrapped__()


def test_cpu_names() -> None:
    assert get_target("tvm-cpu:znver4").isa == "avx512vnni" and not get_target("tvm-cpu:znver4").can("measurable")
    assert get_target("tvm-cpu:cortex-a76").isa == "dotprod"
    assert get_target("tvm-cpu").can("measurable")
    with pytest.raises(UsageError, match="unknown CPU 'znver44'.*Did you mean 'znver4'"):
        get_target("tvm-cpu:znver44")


@pytest.mark.parametrize(
    ("cpu", "host", "missing"),
    [("cortex-a76", "cortex-a72", "dotprod"), ("cortex-a72", "cortex-a76", ""), ("znver4", "haswell", "avx512vnni"), ("haswell", "znver4", "")],
)
def test_instructions_that_a_cpu_lacks(cpu: str, host: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.targets.tvm import machine

    held = machine.machine_named(host)
    monkeypatch.setattr(machine, "host_machine", lambda: held)
    found = machine.missing_features(machine.machine_named(cpu))
    assert (missing in found) if missing else not found


def test_slow_kernels_need_to_be_accepted(tmp_path: Path) -> None:
    b = IntegerLayers("slow")
    graph = b.graph(b.linear(b.codes("x", 4, 16), 8, at="head"))
    emission = get_target("tvm-cpu:x86-64").emit(graph, tmp_path)
    with pytest.raises(ConstraintError, match="(?s)linear at head: vpmaddwd int8: 128-bit vectors.*--allow-slow"):
        refuse_slow(emission, allow_slow=False)
    refuse_slow(emission, allow_slow=True)
    assert any(choice.slow for choice in emission.kernels)


def test_products_without_a_schedule_name_the_module() -> None:
    b = IntegerLayers("wide")
    wide = QuantParams(DType.int32, np.float32(1))
    x, y = b.input("x", DType.int32, (2, 3, 4), wide), b.input("y", DType.int32, (2, 4, 5), wide)
    b.origin = b.origin.__class__("encoder.scores")
    graph = b.graph(b.op("matmul", x, y))
    with pytest.raises(UnsupportedError, match="matmul at encoder.scores: has no schedule: .*do not fit 16 bits"):
        session_of(graph)


def test_all_ops_without_a_kernel_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.targets.tvm import plan

    monkeypatch.setattr(plan, "ALL_STAGES", {k: v for k, v in plan.ALL_STAGES.items() if k != "topk"})
    b = GraphBuilder("odd", Level.FLOAT)
    x = b.input("x", DType.float32, (4, 3))
    graph = b.build([*b.node("topk", x, k=2).outputs, *b.node("topk", x, k=1, axis=0).outputs])
    with pytest.raises(UnsupportedError, match="no TVM kernel for: topk.*; topk"):
        session_of(graph)


def test_shapes_and_types_of_inputs() -> None:
    b = IntegerLayers("shapes")
    n = symbol("n")
    x = b.input("x", DType.int8, (n, 6), int8(0.02))
    y = b.input("y", DType.int8, (n, 6), int8(0.03))
    session = session_of(b.graph(b.add(x, y)))
    rows = np.zeros((3, 6), np.int8)
    assert session.run([rows, rows])[0].shape == (3, 6)
    with pytest.raises(UsageError, match="not the ones that the program was compiled for: x.3, 6., y.4, 6."):
        session.run([rows, np.zeros((4, 6), np.int8)])
    with pytest.raises(UsageError, match="'y' must be int8 of rank 2, got uint8"):
        session.run([rows, rows.astype(np.uint8)])
    with pytest.raises(UsageError, match="takes 2 inputs"):
        session.run([rows])


def test_artefacts(tmp_path: Path) -> None:
    b = IntegerLayers("artefact")
    graph = b.graph(b.linear(b.codes("x", 4, 16), 8))
    target, codes = get_target("tvm-cpu"), random_codes(graph)
    folder, again = tmp_path / "a", tmp_path / "b"
    for place in (folder, again):
        place.mkdir()
        target.emit(graph, place, {"recipe": "none"})
    for name in ("lib.so", "constants.safetensors", "program.json"):
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name
    assert target.verify(graph, folder, [codes]).failures == ()
    profile = target.profile(folder, codes)
    assert [k.kernel for k in profile.kernels] == ["vpmaddwd int8"] or profile.kernels[0].gops
    assert profile.peak_gops > 0 and profile.kernels[0].ms > 0

    shutil.copytree(folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "constants.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(UsageError, match="cannot read the program"):
        target.open(tmp_path / "damaged")
    program = json.loads((folder / "program.json").read_text())
    damaged = {**program, "format": 99}
    (again / "program.json").write_text(json.dumps(damaged))
    with pytest.raises(UsageError, match="has format 99.*compile the model again"):
        target.open(again)
    (again / "program.json").write_text(json.dumps(program))
    constants = load_file(folder / "constants.safetensors")
    for changed, message in (
        ({**constants, "c0": constants["c0"].astype(np.int64)}, "does not belong to the program: c0 is int64"),
        ({**constants, "c0": np.ascontiguousarray(constants["c0"][..., :1])}, r"c0 is int8\[.*, 1\], not int8\["),
        ({k: v for k, v in constants.items() if k != "c0"}, "does not belong to the program: c0 is missing"),
    ):
        save_file(changed, tmp_path / "damaged" / "constants.safetensors")
        with pytest.raises(UsageError, match=message):
            target.open(tmp_path / "damaged")
    (folder / "lib.so").unlink()
    with pytest.raises(UsageError, match="lib.so is missing"):
        target.open(folder)
    with pytest.raises(UnsupportedError, match="is for cortex-a76.*lacks the architecture aarch64"):
        get_target("tvm-cpu:cortex-a76").open(again)
