"""Reading ONNX models: shapes, sizes computed by ops, initializers, functions, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import qcompiler as qc
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.frontend import capture
from qcompiler.frontend.onnx import OnnxImport, import_onnx
from qcompiler.ir.dims import is_symbolic, symbol

from .models import info, model, node


def _float(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def test_shape_arithmetic_follows_symbols() -> None:
    """Shape -> Slice -> Concat -> Reshape with a dynamic batch becomes one reshape with a symbolic size."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["y"]),
        node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        node("Div", ["y", "f"], ["z"]),
    ]
    weights = {"zero": np.int64(0), "axes": np.array([0]), "rest": np.array([2, -1])}
    graph = import_onnx(model(nodes, [info("x", ["batch", 4, 6])], ["z"], weights))
    assert graph.outputs[0].shape == (symbol("batch"), 2, 12)
    assert sorted(n.op for n in graph.nodes) == ["dim", "div", "reshape"]
    for batch in (1, 3):
        x = _float(np.random.default_rng(batch), batch, 4, 6)
        np.testing.assert_allclose(run_reference(graph, [x])[0], x.reshape(batch, 2, 12) / batch, rtol=1e-6)


def test_constant_conditions_choose_a_branch() -> None:
    branches = [
        helper.make_graph([node(op, ["x"], ["b"])], op, [], [info("b", None)]) for op in ("Relu", "Neg")
    ]
    nodes = [
        node("Size", ["x"], ["n"]),
        node("Greater", ["n", "limit"], ["c"]),
        node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    made = model(nodes, [info("x", [2, 3])], ["y"], {"limit": np.int64(5)})
    assert [n.op for n in import_onnx(made).nodes] == ["relu"]
    with pytest.raises(UnsupportedError, match="condition of If must be known"):
        import_onnx(model(nodes[2:], [info("x", [2]), info("c", [], TensorProto.BOOL)], ["y"]))


def test_shapes_from_the_caller() -> None:
    made = model([node("Relu", ["x"], ["y"])], [info("x", ["n", 3, "h", "w"])], ["y"])
    assert import_onnx(made, OnnxImport({"x": (1, 3, "size", 8)})).inputs[0].shape == (1, 3, symbol("size"), 8)
    with pytest.raises(UsageError, match="axis 1 of input 'x' is 3"):
        import_onnx(made, OnnxImport({"x": (1, 4, 8, 8)}))
    with pytest.raises(UsageError, match="has no input 'z'; it has x"):
        import_onnx(made, OnnxImport({"z": (1,)}))
    with pytest.raises(UsageError, match="4 axes, the shape given for it 1"):
        import_onnx(made, OnnxImport({"x": (1,)}))
    unknown = model([node("Relu", ["x"], ["y"])], [info("x", None)], ["y"])
    with pytest.raises(UsageError, match="--shape x=1x3x224x224"):
        import_onnx(unknown)
    assert import_onnx(unknown, OnnxImport({"x": (2, 2)})).outputs[0].shape == (2, 2)


def test_names_of_dimensions_become_identifiers() -> None:
    made = model([node("Relu", ["x"], ["y"])], [info("x", ["batch size", "past + 1", None, -1])], ["y"])
    shape = import_onnx(made).inputs[0].shape
    assert [str(d) for d in shape] == ["batch_size", "past + 1", "x_2", "x_3"]
    assert all(is_symbolic(d) for d in shape)


def test_initializers_listed_as_inputs_are_constants() -> None:
    made = model([node("Add", ["x", "w"], ["y"])], [info("x", [2]), info("w", [2])], ["y"], {"w": np.ones(2, np.float32)})
    assert [v.name for v in import_onnx(made).inputs] == ["x"]


def test_functions_of_the_model_are_inlined() -> None:
    body = [node("Mul", ["a", "a"], ["b"]), node("Elu", ["b"], ["c"])]
    body[1].attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    function = helper.make_function("local", "Squared", ["a"], ["c"], body, [helper.make_opsetid("", 21)], ["slope"])
    made = model([node("Squared", ["x"], ["y"], domain="local", slope=0.25)], [info("x", [3])], ["y"], functions=[function])
    graph = import_onnx(made)
    assert [n.op for n in graph.nodes] == ["mul", "elu"] and graph.nodes[1].attrs["alpha"] == 0.25
    recursive = helper.make_function(
        "local", "Again", ["a"], ["c"], [node("Again", ["a"], ["c"], domain="local")], [helper.make_opsetid("local", 1)]
    )
    with pytest.raises(UnsupportedError, match="nested too deeply"):
        import_onnx(model([node("Again", ["x"], ["y"], domain="local")], [info("x", [3])], ["y"], functions=[recursive]))


def test_everything_unsupported_is_listed_at_once() -> None:
    nodes = [
        node("NonZero", ["x"], ["a"]),
        node("Det", ["x"], ["b"], name="head/det"),
        node("Frobnicate", ["x"], ["c"], domain="org.example"),
        node("Relu", ["c"], ["d"]),
    ]
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(model(nodes, [info("x", [2, 2])], ["a", "b", "d"]))
    text = str(caught.value)
    assert text.startswith("3 ops of g cannot be imported") and caught.value.exit_code == 4
    assert "org.example.Frobnicate: no converter for domain org.example" in text and "head/det" in text
    blocked = model([node("Conv", ["x"], ["a"], domain="com.microsoft.nchwc")], [info("x", [2, 2])], ["a"])
    with pytest.raises(UnsupportedError, match="memory layout of one CPU"):
        import_onnx(blocked)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Relu", ["b"], ["a"]), node("Neg", ["a"], ["b"])], "the graph has a cycle"),
        ([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])], "two producers"),
        ([node("Relu", ["q"], ["y"])], "no input, initializer or result"),
        ([node("Relu", ["x"], ["z"])], "output 'y' is computed by no node"),
        ([node("Relu", ["x"], ["x"])], "two producers"),
    ],
)
def test_graphs_that_are_none(nodes: list[onnx.NodeProto], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        import_onnx(model(nodes, [info("x", [2])], ["y"]))


def test_nodes_may_stand_in_any_order() -> None:
    """As ONNX Runtime's converter to float16 writes them; also where a branch reads what stands behind it."""
    graph = import_onnx(model([node("Relu", ["b"], ["y"]), node("Neg", ["x"], ["b"])], [info("x", [2])], ["y"]))
    assert [n.op for n in graph.nodes] == ["neg", "relu"]
    branches = {
        f"{name}_branch": helper.make_graph([node(op, ["b"], [name])], name, [], [onnx.ValueInfoProto(name=name)])
        for name, op in (("then", "Relu"), ("else", "Abs"))
    }
    nodes = [node("If", ["c"], ["y"], **branches), node("Neg", ["x"], ["b"])]
    chosen = import_onnx(model(nodes, [info("x", [2])], ["y"], {"c": np.array(True)}))
    assert [n.op for n in chosen.nodes] == ["neg", "relu"]


def test_wrong_shapes_name_the_place() -> None:
    made = model([node("MatMul", ["x", "w"], ["y"], name="/head/fc/MatMul")], [info("x", [2, 3])], ["y"], {"w": np.ones((4, 5), np.float32)})
    with pytest.raises(UnsupportedError, match=r"do not fit[\s\S]*at /head/fc/MatMul"):
        import_onnx(made)


def test_duplicate_names() -> None:
    made = model([node("Relu", ["x"], ["y"])], [info("x", [2]), info("x", [2])], ["y"])
    with pytest.raises(UsageError, match="declared twice"):
        import_onnx(made)
    twice = model([node("Add", ["x", "w"], ["y"])], [info("x", [1])], ["y"], {"w": np.ones(1, np.float32)})
    twice.graph.initializer.append(twice.graph.initializer[0])
    with pytest.raises(UsageError, match="given twice"):
        import_onnx(twice)


# -- files ---------------------------------------------------------------------------------------------------


def _save_external(folder: Path, rows: int = 400) -> tuple[Path, np.ndarray]:
    weight = _float(np.random.default_rng(0), rows, 64)
    made = model([node("MatMul", ["x", "w"], ["y"])], [info("x", [1, rows])], ["y"], {"w": weight})
    onnx.save(made, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    return folder / "m.onnx", weight


def test_external_data(tmp_path: Path) -> None:
    path, weight = _save_external(tmp_path)
    graph = import_onnx(path)
    assert np.array_equal(next(graph.constants()).data, weight)  # type: ignore[arg-type]
    (tmp_path / "m.data").write_bytes(weight.tobytes()[:-4])
    with pytest.raises(UsageError, match="wants bytes"):
        import_onnx(path)
    (tmp_path / "m.data").unlink()
    with pytest.raises(UsageError, match="'m.data', which is missing"):
        import_onnx(path)


@pytest.mark.parametrize("location", ["../secret.bin", "link.bin", "ABSOLUTE"])
def test_external_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "model").mkdir()
    path, weight = _save_external(tmp_path / "model")
    (tmp_path / "secret.bin").write_bytes(weight.tobytes())
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "secret.bin")
    made = onnx.load(path, load_external_data=False)
    target = str(tmp_path / "secret.bin") if location == "ABSOLUTE" else location
    made.graph.initializer[0].external_data[0].value = target
    path.write_bytes(made.SerializeToString())
    with pytest.raises(UsageError, match="outside of the model's folder: refused"):
        import_onnx(path)


def test_large_weights_stay_in_the_file_until_read(tmp_path: Path) -> None:
    weight = _float(np.random.default_rng(0), 300, 100)
    made = model([node("MatMul", ["x", "w"], ["y"])], [info("x", [1, 300])], ["y"], {"w": weight, "small": weight[:1]})
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    from qcompiler.frontend.onnx.file import open_onnx

    file = open_onnx(tmp_path / "m.onnx")
    assert list(file.spans) == [0] and not file.proto.graph.initializer[0].raw_data
    assert np.array_equal(next(import_onnx(tmp_path / "m.onnx").constants()).data, weight)  # type: ignore[arg-type]


def test_files_that_are_no_model(tmp_path: Path) -> None:
    made = model([node("Relu", ["x"], ["y"])], [info("x", [2])], ["y"]).SerializeToString()
    contents = {
        "empty.onnx": (b"", "is empty"),
        "cut.onnx": (made[:-3], "truncated"),
        "text.onnx": (b"hello world, this is text", "no ONNX model"),
        "zip.onnx": (b"PK\x03\x04" + bytes(60), "no ONNX model"),
        "nothing.onnx": (onnx.ModelProto(ir_version=10).SerializeToString(), "no graph with outputs"),
    }
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=message):
            capture(tmp_path / name)
    with pytest.raises(UsageError, match="no such model"):
        capture(tmp_path / "absent.onnx")
    old = model([node("Relu", ["x"], ["y"])], [info("x", [2])], ["y"], opset=4)
    with pytest.raises(UnsupportedError, match="operator set 4"):
        capture(old)


def test_tensor_that_claims_more_than_it_has() -> None:
    made = model([node("Add", ["x", "w"], ["y"])], [info("x", [1])], ["y"], {"w": np.ones(4, np.float32)})
    made.graph.initializer[0].dims[0] = 1 << 38
    with pytest.raises(UsageError, match="bytes for 274877906944 elements"):
        import_onnx(made)


def test_compile_from_a_file(tmp_path: Path) -> None:
    """The same network by torch.export and by its ONNX export gives the same integers."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU6(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 10),
    ).eval()  # fmt: skip
    rng = np.random.default_rng(0)
    data = [(_float(rng, 1, 3, 12, 12),) for _ in range(6)]
    x = torch.from_numpy(data[0][0])
    torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=False, opset_version=17, input_names=["x"])
    ours = qc.compile(str(tmp_path / "net.onnx"), target="onnx", calibration=data, shapes={"x": (1, 3, 12, 12)})
    direct = qc.compile(net, (x,), target="onnx", calibration=data)
    for sample in data:
        assert np.array_equal(ours.run(*sample)[0], direct.run(*sample)[0])
