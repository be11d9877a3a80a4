"""Integer programs in ONNX Runtime: standard integer ops only, and every integer equal to the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from qcompiler.boundary import quantize_inputs
from qcompiler.errors import VerificationError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph, Node, constant
from qcompiler.passes.base import Context
from qcompiler.targets import get_target
from qcompiler.targets.onnx.emit import emit_model
from qcompiler.targets.onnx.runtime import OnnxSession
from support.integer_encoder import encoder, sentences
from support.integer_programs import integer_program
from support.toy_networks import ToyTarget, mobile_network, random_samples

FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}


def of_encoder(**config) -> tuple[Graph, list]:
    graph = encoder(causal=True)
    program = integer_program(graph, Context(target=ToyTarget(), samples=sentences(graph)), **config)
    return program, [list(s) for s in sentences(graph, 3, seed=11)]


def of_network(**config) -> tuple[Graph, list]:
    graph = mobile_network(5)
    program = integer_program(graph, **config)
    return program, [quantize_inputs(program, s) for s in random_samples(graph, 3, seed=11, scale=2.0)]


PROGRAMS = {
    "network-31": (of_network, {}),
    "network-15": (of_network, {"mult_bits": 15}),
    "network-double": (of_network, {"profile": "dyadic_double"}),
    "network-pow2": (of_network, {"profile": "shift_half_even"}),
    "encoder-pow2": (of_encoder, {"profile": "shift_half_even"}),
    "encoder": (of_encoder, {}),
    "encoder-shifts": (of_encoder, {"softmax": "shift", "activation": "shift"}),
}


def uses_no_float(model: onnx.ModelProto) -> bool:
    """True if no tensor that is declared, stored or cast to is real (shape inference types the rest)."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {v.type.tensor_type.elem_type for v in [*inferred.value_info, *inferred.input, *inferred.output]}
    kinds |= {t.data_type for t in inferred.initializer}
    kinds |= {a.i for n in inferred.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
    return not kinds & FLOATS and all(n.domain == "" for n in inferred.node)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_integer_is_the_references(name, tmp_path):
    build, config = PROGRAMS[name]
    program, samples = build(**config)
    target = get_target("onnx")
    target.emit(program, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    if "pow2" in name:
        assert {"QuantizeLinear", "DequantizeLinear"} <= {n.op_type for n in model.graph.node}
    else:
        assert uses_no_float(model)
    found = target.verify(program, tmp_path, samples)
    found.check()
    assert found.differing == 0 and found.max_lsb == 0 and set(found.ops) == {"off", "on"}
    assert all(check.differing == 0 for checks in found.ops.values() for check in checks)
    data = emit_model(program, target.style).proto.SerializeToString()
    for arrays in samples:
        for optimize in (False, True):
            for got, expected in zip(OnnxSession(data, optimize=optimize).run(arrays), run_reference(program, arrays), strict=True):
                assert got.dtype == expected.dtype
                np.testing.assert_array_equal(got, expected)


def test_saturating_inputs():
    program, _ = of_network()
    (image,) = program.inputs
    session = OnnxSession(emit_model(program, get_target("onnx").style).proto.SerializeToString())
    for fill in (image.dtype.min, image.dtype.max):
        arrays = [np.full(image.shape, fill, np.int8)]
        np.testing.assert_array_equal(session.run(arrays)[0], run_reference(program, arrays)[0])
    beyond = quantize_inputs(program, [np.full(image.shape, np.float32(1e9))])
    assert (beyond[0] == image.dtype.max).all()


def test_a_difference_of_one_step_fails(tmp_path):
    """The artefact of a program beside the reference of the same program with one bias changed."""
    program, samples = of_network()
    target = get_target("onnx")
    target.emit(program, tmp_path)
    with pytest.raises(VerificationError, match="output 'output_0' of sample 0, the artefact: .* integers differ"):
        target.verify(_with_another_bias(program), tmp_path, samples).check()


def _with_another_bias(program: Graph) -> Graph:
    """The bias of the last layer raised by one step of the result."""
    last = [n for n in program.nodes if n.op == "linear"][-1]
    bias = last.inputs[2]
    changed = constant(bias.data + np.int32(2000), name=bias.name)

    def swap(node: Node) -> Node:
        return replace(node, inputs=(*node.inputs[:2], changed)) if node is last else node

    return Graph(program.name, program.inputs, map(swap, program.nodes), program.outputs, program.output_names, program.level)
