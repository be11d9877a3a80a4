"""Converters of recurrent layers: unrolled over a sequence of known length.

The products with the inputs are one linear over the whole sequence; only those with the hidden state are per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...ir import Value
from ..context import Context, Refusal, static

Step = Callable[[Context, Value, tuple[Value, ...], Sequence[Value | None]], tuple[Value, ...]]


def _gates(c: Context, total: Value, count: int) -> list[Value]:
    size = total.shape[-1] // count
    return [c.slice(total, -1, i * size, (i + 1) * size) for i in range(count)]


def lstm_step(c: Context, x: Value, state: tuple[Value, ...], weights: Sequence[Value | None]) -> tuple[Value, ...]:
    """Input, forget, cell and output gates; x is W_ih x + b_ih (Hochreiter & Schmidhuber 1997, as torch orders it).

    weights: W_hh, b_hh and, where the hidden state is projected (Sak et al. 2014), W_hr.
    """
    hidden, cell = state
    total = c.op("add", x, c.op("linear", hidden, weights[0], weights[1]))
    i, f, g, o = _gates(c, total, 4)
    kept = c.op("mul", c.op("sigmoid", f), cell)
    cell = c.op("add", kept, c.op("mul", c.op("sigmoid", i), c.op("tanh", g)))
    hidden = c.op("mul", c.op("sigmoid", o), c.op("tanh", cell))
    return c.op("linear", hidden, weights[2]) if len(weights) > 2 else hidden, cell


def gru_step(c: Context, x: Value, state: tuple[Value, ...], weights: Sequence[Value | None]) -> tuple[Value, ...]:
    """Reset, update and new gates; the reset gate is applied after the product with the hidden state, as in torch."""
    (hidden,) = state
    xr, xz, xn = _gates(c, x, 3)
    hr, hz, hn = _gates(c, c.op("linear", hidden, weights[0], weights[1]), 3)
    reset, update = c.op("sigmoid", c.op("add", xr, hr)), c.op("sigmoid", c.op("add", xz, hz))
    new = c.op("tanh", c.op("add", xn, c.op("mul", reset, hn)))
    return (c.op("add", new, c.op("mul", update, c.op("sub", hidden, new))),)


def simple_step(activation: str) -> Step:
    """H = f(x + W_hh h + b_hh)."""

    def step(c: Context, x: Value, state: tuple[Value, ...], weights: Sequence[Value | None]) -> tuple[Value, ...]:
        return (c.op(activation, c.op("add", x, c.op("linear", state[0], weights[0], weights[1]))),)

    return step


def _direction(
    c: Context, x: Value, state: tuple[Value, ...], weights: Sequence[Value], step: Step, backward: bool
) -> tuple[Value, tuple[Value, ...]]:
    """One layer in one direction over x [T, N, C]: (outputs [T, N, H], last state)."""
    w_ih, w_hh, *others = weights
    b_ih, b_hh = others[:2] if len(others) > 1 else (None, None)
    projection = others[-1:] if len(others) in (1, 3) else []
    projected = c.op("linear", x, w_ih, b_ih)
    length = static(x.shape[0], "the length of a sequence that a recurrent layer reads")
    outputs: list[Value] = []
    for t in range(length - 1, -1, -1) if backward else range(length):
        state = step(c, c.select(projected, 0, t), state, (w_hh, b_hh, *projection))
        outputs.append(c.unsqueeze(state[0], 0))
    if backward:
        outputs.reverse()
    return (outputs[0] if length == 1 else c.op("concat", *outputs, axis=0)), state


def recurrent(step: Step, states: int) -> Callable[..., list[Value]]:
    """The `.input` overloads of torch's recurrent layers."""

    def convert(
        c: Context,
        x: Value,
        hx: Any,
        params: Sequence[Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> list[Value]:
        if train and dropout:
            raise Refusal("the program was exported in training mode; call eval() on the model first")
        initial = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        directions = 2 if bidirectional else 1
        count = len(params) // (num_layers * directions)  # W_ih, W_hh, two biases if any, a projection if any
        y = c.transpose(x, (1, 0, 2)) if batch_first else x
        finals: list[tuple[Value, ...]] = []
        for layer in range(num_layers):
            results = []
            for d in range(directions):
                index = layer * directions + d
                start = tuple(c.select(h, 0, index) for h in initial)
                weights = params[index * count : (index + 1) * count]
                out, last = _direction(c, y, start, weights, step, backward=d == 1)
                results.append(out)
                finals.append(last)
            y = results[0] if directions == 1 else c.op("concat", *results, axis=-1)
        stacked = [_stack(c, [f[i] for f in finals]) for i in range(states)]
        return [c.transpose(y, (1, 0, 2)) if batch_first else y, *stacked]

    return convert


def _stack(c: Context, values: Sequence[Value]) -> Value:
    wide = [c.unsqueeze(v, 0) for v in values]
    return wide[0] if len(wide) == 1 else c.op("concat", *wide, axis=0)


CONVERTERS: dict[str, Callable[..., Any]] = {
    "aten.lstm.input": recurrent(lstm_step, 2),
    "aten.gru.input": recurrent(gru_step, 1),
    "aten.rnn_tanh.input": recurrent(simple_step("tanh"), 1),
    "aten.rnn_relu.input": recurrent(simple_step("relu"), 1),
}
