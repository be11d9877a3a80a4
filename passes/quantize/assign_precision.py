"""Decide how every node is computed: in integers with calibrated ranges, with ranges taken at run time, or real.

Three things decide, in this order: what an op can do at all (conv and linear with constant weights begin integer
computation, matmul where a rule names it; the ops of `op_roles` follow on codes), what the recipe says for the
node's module path, and what kernels the target has. Everything else stays real, with a reason: masks, integer index
paths, softmax, normalizations, sums that feed real readers.

The graph is not changed; the result is the plan in `context.tables["plan"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.errors import UnsupportedError
from qcompiler.ir import DType, Graph, Node, Value
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.byte_values import exact_range
from qcompiler.passes.quantize.code_flow import CodeFlow
from qcompiler.passes.quantize.op_roles import (
    FIXED_RANGES,
    FOLLOWERS,
    JOINS,
    KERNELS,
    MOVEMENT,
    PRODUCTS,
    clip_limits,
    data_operands,
)
from qcompiler.passes.quantize.plan import (
    DYNAMIC,
    FLOAT,
    KEPT_HEAD,
    STATIC,
    WEIGHT_ONLY,
    NodePlan,
    QuantPlan,
    RangeRule,
)
from qcompiler.passes.quantize.weight_widths import (
    check_groups,
    check_real_operand,
    check_static,
    check_summed,
)
from qcompiler.passes.transform.site_rounding import SCHEMES
from qcompiler.recipe import LayerSettings, Recipe
from qcompiler.targets.saturation import summed_products, worthwhile_sums

PLAN = "plan"


class AssignConfig(PassConfig):
    """recipe: settings per layer."""

    recipe: Recipe = Recipe()


class AssignPrecision(Pass):
    """Fills `nodes`, `stored`, `ranges` and `groups` of a new plan."""

    name = "assign_precision"
    kind = Kind.EXACT

    def __init__(self, config: AssignConfig | None = None) -> None:
        self.config = config or AssignConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Fill the plan.

        Raises:
            ConstraintError: the recipe asks for widths or groups that the target has no kernel for, or for groups that
                do not divide the input channels.
            UnsupportedError: no node can be quantized; lists why.
        """
        plan = _Assignment(graph, self.config.recipe, context.target, context.tables.get(SCHEMES, {})).plan()
        context.tables[PLAN] = plan
        notes = tuple(
            Note(node.where(), p.scheme != FLOAT, p.reason, {"op": node.op, "scheme": p.scheme})
            for node, p in plan.nodes.items()
        )
        return Result(graph, False, notes)


class _Assignment:
    def __init__(self, graph: Graph, recipe: Recipe, target: Any, schemes: Mapping[str, str]) -> None:
        self.graph, self.recipe, self.target, self.schemes = graph, recipe, target, schemes
        self.settings: dict[Node, LayerSettings] = {}
        self.reasons: dict[Node, str] = {}

    def plan(self) -> QuantPlan:
        schemes = {node: self._product_scheme(node) for node in self.graph.nodes}
        static = [n for n, scheme in schemes.items() if scheme == STATIC]
        real = {n: scheme for n, scheme in schemes.items() if scheme in (DYNAMIC, WEIGHT_ONLY)}
        if not static and not real:
            raise UnsupportedError(self._nothing())
        check_groups({node: self.settings[node] for node in real})
        flow = CodeFlow(self.graph, static, self._gives_real, self._follows)
        plan = QuantPlan(self.graph, stored=flow.codes)
        for node in self.graph.nodes:
            plan.nodes[node] = self._node_plan(node, flow, real)
        self._add_ranges(plan, static)
        plan.groups = _groups(plan)
        return plan

    # products

    def _product_scheme(self, node: Node) -> str:
        """STATIC, DYNAMIC, WEIGHT_ONLY or FLOAT for a product; "" for other ops."""
        if node.op not in PRODUCTS | {"matmul", "conv_transpose"}:
            return ""
        settings = self.settings[node] = self._settings_for(node)
        reason = self._why_not(node, settings)
        if reason:
            self.reasons[node] = reason
            return FLOAT
        if settings.scheme in (DYNAMIC, WEIGHT_ONLY):
            check_real_operand(node, settings, self.target)
            return settings.scheme
        check_static(node, settings, self._activation_dtype(settings), self.target)
        return STATIC

    def _settings_for(self, node: Node) -> LayerSettings:
        """The recipe's; where it leaves the scheme open, the one that was chosen, static if nothing was.

        A layer that a pass made to stay in float stays in float whatever the recipe says.
        """
        settings = self.recipe.settings_for(node.origin.module, node.op)
        chosen = self.schemes.get(node.origin.module)
        if settings.scheme != "auto" and chosen != FLOAT:
            return settings
        return settings.model_copy(update={"scheme": chosen or STATIC})

    def _summed(self, node: Node, settings: LayerSettings) -> int:
        """Products that add up in 16 bits; those of real numbers and of groups do not."""
        value = node.inputs[1]
        assert value is not None
        if settings.scheme == WEIGHT_ONLY or settings.group_size:
            return 1
        count = summed_products(settings.int16_products, self.target, self.recipe.integer_only)
        count = worthwhile_sums(count, tuple(int(d) for d in value.shape), node.attrs.get("groups", 1))
        check_summed(node, settings, count)
        return count

    def _why_not(self, node: Node, settings: LayerSettings) -> str:
        if settings.scheme == "float":
            return "the recipe keeps it real"
        if self.recipe.keep_head and node.op == "linear" and self.graph.is_output(node.output):
            return KEPT_HEAD
        if node.op == "matmul" and not self._names_op(node):
            kind = "an operand is a stack of matrices" if any(v.is_const for v in node.operands) else "both operands are computed"
            return f"{kind}; name matmul in a rule's ops to quantize it"
        if any(v.dtype is not DType.float32 for v in node.operands):
            wide = any(v.dtype is DType.float64 for v in node.operands)
            hint = "; convert the model with .float(), kernels compute in float32" if wide else ""
            return f"operands are {', '.join(v.dtype.name for v in node.operands)}, not float32{hint}"
        if node.op in PRODUCTS:
            x, w, *bias = node.operands
            if not w.is_const or any(not b.is_const for b in bias):
                return "weight or bias is computed, not constant"
            if x.is_const:
                return "its operand is a constant"
            if 0 in w.shape:
                return "the weight is empty"
        if settings.scheme == "dynamic":
            if node.op != "linear":
                return f"no kernel computes {node.op} with ranges taken at run time"
            return "" if self.target.can("dynamic_linear") else "the target has no dynamic_linear kernel"
        if settings.scheme == WEIGHT_ONLY:
            if node.op != "linear":
                return f"no kernel computes {node.op} with integer weights and real activations"
            return "" if self.target.kernels.get("weight_only_linear") else "the target has no weight_only_linear kernel"
        if node.op not in self.target.kernels:
            return f"the target has no quantized {node.op}"
        return ""

    def _names_op(self, node: Node) -> bool:
        rules = [r for r in self.recipe.rules if r.ops and node.op in r.ops]
        return any(r.applies_to(node.origin.module, node.op) for r in rules)

    def _activation_dtype(self, settings: LayerSettings) -> DType:
        sign = "int" if self.recipe.activations == "s8_symmetric" or settings.activation_bits > 8 else "uint"
        return DType[f"{sign}{settings.activation_bits}"]

    def _gives_real(self, node: Node) -> bool:
        return node.op in ("linear", "matmul") and bool(self.target.can("accumulator_to_float"))

    def _follows(self, node: Node) -> bool:
        return KERNELS.get(node.op, node.op) in self.target.kernels and self._settings_for(node).scheme == "static"

    # the plan

    def _node_plan(self, node: Node, flow: CodeFlow, real: dict[Node, str]) -> NodePlan:
        settings = self.settings.get(node)
        if settings is not None and (node in flow.products or node in real):
            weight = node.op != "matmul"
            sign = "int" if settings.weight_symmetric else "uint"
            return NodePlan(
                STATIC if node in flow.products else real[node],
                weight_dtype=DType[f"{sign}{settings.weight_bits}"] if weight else None,
                weight_symmetric=settings.weight_symmetric,
                activation_dtype=self._activation_dtype(settings),
                granularity=settings.granularity,
                rounding=settings.rounding if weight else "",
                fused=flow.fused.get(node),
                per_channel=settings.per_channel,
                weight_range=settings.weight_range,
                group_size=settings.group_size or None,
                progressive=settings.progressive,
                digits=settings.weight_digits if weight else None,
                summed=self._summed(node, settings) if weight else 1,
            )
        source = next((p for p, a in flow.fused.items() if a is node), None)
        if node in flow.followers:
            reason = f"limits of the requantize of {source.where()}" if source is not None else ""
            own = self._activation_dtype(self.recipe.settings_for(node.origin.module, node.op))
            return NodePlan(STATIC, reason, activation_dtype=own, fused=flow.fused.get(node))
        return NodePlan(FLOAT, self.reasons.get(node) or self._why_real(node, flow))

    def _why_real(self, node: Node, flow: CodeFlow) -> str:
        if all(not v.dtype.is_float for v in node.outputs):
            return "computes integers or truth values, not activations"
        if node.operands and all(v.is_const or not v.dtype.is_float for v in node.operands):
            return "computed from constants and indices only"
        if node.op not in FOLLOWERS:
            return f"{node.op} is computed on real numbers"
        if self._settings_for(node).scheme != "static":
            return "the recipe keeps it real"
        if not self.target.kernels.get(KERNELS.get(node.op, node.op)):
            return f"the target has no quantized {node.op}"
        operands = [node.inputs[i] for i in data_operands(node)]
        if any(v is None or (v not in flow.codes and v not in flow.read_as_codes) for v in operands):
            return "an operand is real"
        return "its readers take real numbers"

    def _add_ranges(self, plan: QuantPlan, static: list[Node]) -> None:
        """Every value that integer nodes read or write needs parameters."""
        needed: dict[Value, Node] = {}
        for node in self.graph.nodes:
            if plan.nodes[node].scheme != STATIC:
                continue
            for index in data_operands(node):
                value = node.inputs[index]
                if value is not None and plan.fused_into(node) is None:
                    needed.setdefault(value, node)
        for value in plan.stored:
            producer = self.graph.producer(value)
            if producer is not None:
                needed.setdefault(value, producer)
        # What a product gives as codes has the product's own width, whoever reads it.
        needed.update({plan.result_of(node): node for node in static if plan.result_of(node) in plan.stored})
        for value, node in needed.items():
            settings = self.settings.get(node) or self.recipe.settings_for(node.origin.module, node.op)
            rule = RangeRule(settings.activation_range.method, settings.activation_range.percentile)
            producer = self.graph.producer(value)
            # Powers of two down to 2^-15 need more than the layer's own bits; their codes are decoded to these.
            powers = producer is not None and producer.op == "round_log2"
            plan.ranges[value] = (DType.int16 if powers else self._activation_dtype(settings), rule)
        for node in self.graph.nodes:
            if plan.nodes[node].scheme == STATIC and node.op in MOVEMENT and node.output in plan.ranges:
                plan.ranges[node.output] = (plan.ranges[node.operands[0]][0], plan.ranges[node.output][1])

    def _nothing(self) -> str:
        reasons = "; ".join(f"{n.where()}: {r}" for n, r in list(self.reasons.items())[:5])
        return f"nothing to quantize: {reasons or 'the model has no convolution, linear layer or matrix product'}"


def _groups(plan: QuantPlan) -> list[tuple[Value, ...]]:
    """Values that must share their parameters: joined through movement and concatenation on codes."""
    leader: dict[Value, Value] = {}

    def find(value: Value) -> Value:
        while leader.get(value, value) is not value:
            value = leader[value]
        return value

    for node, node_plan in plan.nodes.items():
        if node_plan.scheme == STATIC and node.op in MOVEMENT | JOINS:
            for index in data_operands(node):
                value = node.inputs[index]
                if value is not None:
                    leader[find(value)] = find(node.output)
    members: dict[Value, list[Value]] = {}
    for value in plan.ranges:
        members.setdefault(find(value), []).append(value)
    return [tuple(group) for group in members.values() if len(group) > 1]


def fixed_range(plan: QuantPlan, value: Value) -> tuple[float, float] | None:
    """The range of a value that is known without data (of bytes, after ReLU6, ...), None if it has to be measured.

    A clip's own limits are used rather than the largest number seen: calibrated maxima there lose what is rare.
    """
    node = plan.graph.producer(value)
    if node is None:
        return None
    if value in plan.ranges and (bytes_range := exact_range(plan.graph, value, plan.ranges[value][0])) is not None:
        return bytes_range
    if node.op == "clip":
        low, high = clip_limits(node)
        return (low, high) if low is not None and high is not None and low < high else None
    if node.op in FIXED_RANGES and value in plan.ranges and plan.ranges[value][0].bits < 8:
        return None  # a few steps over all that could occur leave too few for what does
    return FIXED_RANGES.get(node.op)
