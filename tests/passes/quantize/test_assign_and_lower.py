"""From a float graph to the integer program: what is quantized, what is not and why, and that the numbers hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompiler.errors import ConstraintError, UnsupportedError, UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, Graph
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.assign_precision import AssignPrecision
from qcompiler.passes.quantize.plan import DYNAMIC, FLOAT, STATIC
from support.toy_networks import (
    Layers,
    ToyTarget,
    basic_passes,
    context_for,
    encoder_network,
    mobile_network,
    plan_of,
    quantize,
    random_samples,
    recipe_with,
    sqnr_db,
)


def outputs(graph: Graph, samples) -> np.ndarray:
    return np.stack([run_reference(graph, s)[0] for s in samples])


def agreement(graph: Graph, program: Graph, count: int = 4) -> float:
    samples = random_samples(graph, count, seed=9)
    return sqnr_db(outputs(graph, samples), outputs(program, samples))


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def schemes(context: Context) -> dict[str, str]:
    return {f"{n.origin.module}:{n.op}": p.scheme for n, p in plan_of(context).nodes.items()}


@pytest.mark.parametrize(("network", "least"), [(mobile_network, 35), (encoder_network, 15)])
@pytest.mark.parametrize("seed", [0, 3])
def test_program_computes_the_network(network, least, seed):
    graph = network(seed)
    context = context_for(graph)
    program = quantize(graph, context)
    samples = random_samples(graph, 6, seed=9)
    assert sqnr_db(outputs(graph, samples), outputs(program, samples)) > least
    executor = TorchExecutor(graph)
    fake = np.stack([executor.run(s, plan=plan_of(context))[0].numpy() for s in samples])
    assert sqnr_db(fake, outputs(program, samples)) > 40  # the fake-quant executor sees what the program computes


def test_convolutions_run_on_codes_from_input_to_output():
    graph = mobile_network()
    context = context_for(graph)
    program = quantize(graph, context)
    assert ops(program).count("quantize") == 1 and ops(program).count("dequantize") == 1
    assert not {"relu", "clip", "add"} & set(ops(program))
    assert all(scheme == STATIC for scheme in schemes(context).values())


def test_real_islands_get_the_accumulator_and_shared_inputs_are_quantized_once():
    graph = encoder_network()
    program = quantize(graph, context_for(graph))
    assert "requantize" not in ops(program)  # every linear feeds real numbers
    assert ops(program).count("quantize") == 4  # q, k and v share one
    assert ops(program).count("dequantize") == 6


def test_without_real_results_a_product_is_rounded_and_dequantized():
    graph = encoder_network()
    program = quantize(graph, context_for(graph, target=ToyTarget(capabilities=frozenset())))
    assert ops(program).count("requantize") >= 6
    assert agreement(graph, program) > 20


def test_relu6_keeps_its_own_range_and_relu_is_measured():
    graph = mobile_network()
    context = context_for(graph)
    quantize(graph, context)
    ranges = {n.op: plan_of(context).activations[n.output] for n in graph.nodes if n.op in ("clip", "relu")}
    assert ranges["clip"].scale == np.float32(6 / 255) and ranges["clip"].zero_point == 0
    assert ranges["relu"].scale != np.float32(6 / 255)


def test_relu_becomes_the_lower_limit_of_a_signed_range():
    graph = mobile_network()
    program = quantize(graph, context_for(graph), recipe_with(activations="s8_symmetric"))
    limits = [n.attrs["qmin"] for n in program.nodes if n.op == "requantize"]
    assert limits.count(0) >= 4
    assert agreement(graph, program) > 30


def test_ignored_first_layer_and_rules_by_module_path():
    graph = mobile_network()
    context = context_for(graph)
    recipe = recipe_with(ignore=["stem"], rules=[{"match": "classifier", "scheme": "float"}])
    program = quantize(graph, context, recipe)
    found = schemes(context)
    assert found["stem:conv"] == found["classifier:linear"] == FLOAT
    assert found["block.expand:conv"] == STATIC
    reasons = {n.origin.module: p.reason for n, p in plan_of(context).nodes.items() if n.op in ("conv", "linear")}
    assert reasons["stem"] == "the recipe keeps it real"
    assert agreement(graph, program) > 30


def test_every_real_node_has_a_reason():
    graph = encoder_network()
    context = context_for(graph)
    quantize(graph, context)
    assert all(p.reason for p in plan_of(context).nodes.values() if p.scheme == FLOAT)


def test_concatenated_values_share_parameters():
    b = Layers("concat")
    x = b.input("x", DType.float32, (1, 3, 6, 6))
    y = b.op("concat", b.op("relu", b.conv(x, 4)), b.conv(x, 5, 3), axis=1)
    graph = b.build([b.conv(y, 2)])
    program = quantize(graph, context_for(graph))
    concat = next(n for n in program.nodes if n.op == "concat")
    assert concat.inputs[0].quant == concat.inputs[1].quant == concat.output.quant
    assert agreement(graph, program) > 28


def test_relu_after_a_residual_sum_becomes_its_limit():
    b = Layers("residual")
    x = b.input("x", DType.float32, (1, 4, 5, 7))
    x = b.op("relu", b.conv(x, 4))
    x = b.op("relu", b.op("add", x, b.conv(x, 4, 3)))
    graph = b.build([b.conv(x, 2, 3, stride=2)])
    program = quantize(graph, context_for(graph))
    assert "requantize_sum" in ops(program) and "relu" not in ops(program)
    assert agreement(graph, program) > 28


def test_mean_without_kept_axes():
    b = Layers("mean")
    x = b.input("x", DType.float32, (1, 4, 5, 7))
    graph = b.build([b.linear(b.op("reduce_mean", b.conv(x, 6), axes=(2, 3)), 3)])
    program = quantize(graph, context_for(graph))
    assert ops(program)[-5:] == ["reduce_mean", "requantize", "reshape", "linear", "dequantize"]
    assert agreement(graph, program) > 20


def test_biasless_and_dead_channels():
    b = Layers("dead")
    x = b.input("x", DType.float32, (1, 3, 4, 4))
    w = b.random(6, 3, 1, 1)
    w[1] = 0.0
    w[2] *= 1e-9  # a folded batch norm with a tiny factor
    bias = np.array([0.1, -2.0, 3.0, 0.0, 1e-9, 0.5], np.float32)
    y = b.op("conv", x, b.const(w), b.const(bias), strides=(1, 1), pads=(0,) * 4, dilations=(1, 1))
    graph = b.build([b.conv(y, 4, bias=False)])
    assert agreement(graph, quantize(graph, context_for(graph))) > 30


def test_shared_weights_are_stored_once():
    b = Layers("tied")
    x = b.input("x", DType.float32, (2, 8))
    w = b.const(b.random(8, 8), name="tied")
    graph = b.build([b.op("linear", b.op("tanh", b.op("linear", x, w, None)), w, None)])
    program = quantize(graph, context_for(graph))
    assert len([c for c in program.constants() if c.dtype is DType.int8]) == 1


def test_dynamic_linears_need_no_data():
    graph = encoder_network()
    context = replace(context_for(graph), samples=None)
    program = quantize(graph, context, recipe_with(scheme="dynamic"))
    assert ops(program).count("dynamic_linear") == 6 and "quantize" not in ops(program)
    assert agreement(graph, program) > 28
    assert DYNAMIC in schemes(context).values()


def test_matmul_where_a_rule_names_it():
    b = Layers("product")
    x = b.input("x", DType.float32, (2, 5, 8))
    graph = b.build([b.op("softmax", b.op("matmul", b.op("tanh", x), b.op("transpose", x, perm=(0, 2, 1))))])
    with pytest.raises(UnsupportedError, match="name matmul"):
        AssignPrecision().run(graph, context_for(graph))
    program = quantize(graph, context_for(graph), recipe_with(rules=[{"match": "*", "ops": ["matmul"]}]))
    assert ops(program).count("quantize") == 2
    assert agreement(graph, program) > 25


def test_nothing_to_quantize_is_unsupported():
    b = Layers("plain")
    graph = b.build([b.op("softmax", b.input("x", DType.float32, (2, 5)))])
    with pytest.raises(UnsupportedError, match="nothing to quantize") as error:
        AssignPrecision().run(graph, context_for(graph))
    assert error.value.exit_code == 4


def test_illegal_widths_name_what_the_target_has():
    graph = mobile_network()
    with pytest.raises(ConstraintError, match="int4 weights.*int8"):
        run_passes(graph, basic_passes(recipe_with(weight_bits=4)), context_for(graph))


def test_static_ranges_need_data():
    graph = encoder_network()
    with pytest.raises(UsageError, match="calibration data"):
        quantize(graph, replace(context_for(graph), samples=None))


def test_same_input_gives_the_same_program():
    graph = mobile_network()
    first, second = (str(quantize(graph, context_for(graph))) for _ in range(2))
    assert first == second


def test_range_method_is_chosen_by_error_and_replayed_from_the_lock():
    graph = encoder_network()
    context = context_for(graph, 16)
    program = quantize(graph, context)
    decision = context.decisions["calibrate_activations"]
    assert decision["method"] in ("minmax", "mse")
    other = {"method": "mse" if decision["method"] == "minmax" else "minmax"}
    replayed = replace(context_for(graph, 16), locked={"calibrate_activations": decision})
    assert str(quantize(graph, replayed)) == str(program) and replayed.decisions == context.decisions
    changed = replace(context_for(graph, 16), locked={"calibrate_activations": other})
    quantize(graph, changed)
    assert changed.decisions["calibrate_activations"] == other
    assert all(r[1].method == "auto" for r in plan_of(changed).ranges.values())
