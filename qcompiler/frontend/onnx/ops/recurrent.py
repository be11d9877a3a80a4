"""Converters of recurrent layers: unrolled over a sequence of known length.

ONNX orders the gates of an LSTM i, o, f, c and those of a GRU z, r, h; weights are W [D, G H, C], R [D, G H, H],
B [D, 2 G H] with D directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ....ir import Value
from ...context import static
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]
State = tuple[Value, ...]
_FUNCTIONS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu"}


class _Cell:
    """One direction of a layer: weights, activations and the step from one state to the next."""

    def __init__(self, c: OnnxContext, functions: Sequence[str], weights: tuple[Value, Value, Value | None], gates: int) -> None:
        self.c, self.functions, self.gates = c, functions, gates
        w, r, bias = weights
        self.hidden = int(r.shape[-1])
        self.w, self.r = w, r
        self.bias_w: Value | None = None
        self.bias_r: Value | None = None
        if bias is not None:
            half = gates * self.hidden
            self.bias_w, self.bias_r = c.slice(bias, 0, 0, half), c.slice(bias, 0, half, 2 * half)

    def split(self, x: Value) -> list[Value]:
        """One part per gate."""
        return [self.c.slice(x, -1, i * self.hidden, (i + 1) * self.hidden) for i in range(self.gates)]

    def apply(self, index: int, x: Value) -> Value:
        """The activation with an index."""
        return self.c.op(self.functions[index], x)


def _rnn(cell: _Cell, x: Value, state: State) -> State:
    """H = f(W x + R h + b)."""
    c = cell.c
    return (cell.apply(0, c.op("add", x, c.op("linear", state[0], cell.r, cell.bias_r))),)


def _lstm(cell: _Cell, x: Value, state: State) -> State:
    """Input, output, forget and cell gates (Hochreiter & Schmidhuber 1997), with peepholes where given."""
    c, (hidden, memory) = cell.c, state
    i, o, f, g = cell.split(c.op("add", x, c.op("linear", hidden, cell.r, cell.bias_r)))
    peep = getattr(cell, "peepholes", None)
    if peep is not None:
        i, f = c.op("add", i, c.op("mul", peep[0], memory)), c.op("add", f, c.op("mul", peep[2], memory))
    kept = c.op("mul", cell.apply(0, f), memory)
    memory = c.op("add", kept, c.op("mul", cell.apply(0, i), cell.apply(1, g)))
    if peep is not None:
        o = c.op("add", o, c.op("mul", peep[1], memory))
    return c.op("mul", cell.apply(0, o), cell.apply(2, memory)), memory


def _gru(cell: _Cell, x: Value, state: State) -> State:
    """Update, reset and new gates (Cho et al. 2014); the reset gate before or after the product with the state."""
    c, (hidden,) = cell.c, state
    xz, xr, xn = cell.split(x)
    rows = [c.slice(cell.r, 0, i * cell.hidden, (i + 1) * cell.hidden) for i in range(3)]
    biases = [None] * 3 if cell.bias_r is None else [c.slice(cell.bias_r, 0, i * cell.hidden, (i + 1) * cell.hidden) for i in range(3)]
    update = cell.apply(0, c.op("add", xz, c.op("linear", hidden, rows[0], biases[0])))
    reset = cell.apply(0, c.op("add", xr, c.op("linear", hidden, rows[1], biases[1])))
    if getattr(cell, "reset_after", False):
        new = c.op("add", xn, c.op("mul", reset, c.op("linear", hidden, rows[2], biases[2])))
    else:
        new = c.op("add", xn, c.op("linear", c.op("mul", reset, hidden), rows[2], biases[2]))
    new = cell.apply(1, new)
    return (c.op("add", new, c.op("mul", update, c.op("sub", hidden, new))),)


def recurrent(step: Callable[[_Cell, Value, State], State], gates: int, states: int, defaults: Sequence[str]) -> Converter:
    """RNN, GRU or LSTM."""

    def convert(c: OnnxContext, x: Value, w: Value, r: Value, bias: Value | None = None, *rest: Value | None) -> list[Value]:
        lengths, *initial = [*rest, None, None, None, None][: 2 + states]
        peepholes = [*rest, None, None, None, None][3] if states == 2 else None
        batch_first = bool(c.number("layout", 0))
        x = c.transpose(x, (1, 0, 2)) if batch_first else x
        time, batch = static(x.shape[0], "the length of a sequence that a recurrent layer reads"), x.shape[1]
        _check_plain(c, lengths, time)
        direction = c.text("direction", "forward")
        directions = 2 if direction == "bidirectional" else 1
        names = c.attr("activations", None) or list(defaults) * directions
        names = [n.decode() if isinstance(n, bytes) else n for n in names]
        if any(n not in _FUNCTIONS for n in names):
            raise Refusal(f"activations {names}; known: {', '.join(_FUNCTIONS)}")
        outputs, finals = [], []
        for d in range(directions):
            functions = [_FUNCTIONS[n] for n in names[d * len(defaults) : (d + 1) * len(defaults)]]
            own = (c.select(w, 0, d), c.select(r, 0, d), None if bias is None else c.select(bias, 0, d))
            cell: Any = _Cell(c, functions, own, gates)
            cell.reset_after = bool(c.number("linear_before_reset", 0))
            if peepholes is not None:
                p = c.select(peepholes, 0, d)
                cell.peepholes = [c.slice(p, 0, i * cell.hidden, (i + 1) * cell.hidden) for i in range(3)]
            zero = c.expand(c.scalar(0, x.dtype), (batch, cell.hidden))
            state: State = tuple(zero if h is None else _initial(c, h, d, batch_first) for h in initial[:states])
            out, last = _run(cell, step, x, state, time, backward=direction == "reverse" or d == 1)
            outputs.append(out)
            finals.append(last)
        y = outputs[0] if directions == 1 else c.op("concat", *outputs, axis=1)  # [T, D, N, H]
        stacked = [_stack(c, [f[i] for f in finals]) for i in range(states)]
        if batch_first:
            return [c.transpose(y, (2, 0, 1, 3)), *(c.transpose(s, (1, 0, 2)) for s in stacked)]
        return [y, *stacked]

    return convert


def _check_plain(c: OnnxContext, lengths: Value | None, time: int) -> None:
    if lengths is not None and (c.array_of(lengths, "sequence_lens") != time).any():
        raise Refusal("sequences of different lengths in one batch")
    if c.number("clip", None) is not None or c.number("input_forget", 0):
        raise Refusal("clip and input_forget are not in the graph")


def _initial(c: OnnxContext, h: Value, d: int, batch_first: bool) -> Value:
    return c.select(c.transpose(h, (1, 0, 2)) if batch_first else h, 0, d)


def _run(
    cell: Any, step: Callable[[Any, Value, State], State], x: Value, state: State, time: int, backward: bool
) -> tuple[Value, State]:
    """One direction over x [T, N, C]: (outputs [T, 1, N, H], last state)."""
    c = cell.c
    projected = c.op("linear", x, cell.w, cell.bias_w)
    outputs: list[Value] = []
    for t in range(time - 1, -1, -1) if backward else range(time):
        state = step(cell, c.select(projected, 0, t), state)
        outputs.append(c.unsqueeze(c.unsqueeze(state[0], 0), 0))
    if backward:
        outputs.reverse()
    return (outputs[0] if time == 1 else c.op("concat", *outputs, axis=0)), state


def _stack(c: OnnxContext, values: Sequence[Value]) -> Value:
    wide = [c.unsqueeze(v, 0) for v in values]
    return wide[0] if len(wide) == 1 else c.op("concat", *wide, axis=0)


CONVERTERS: dict[str, Converter] = {
    "RNN": recurrent(_rnn, 1, 1, ("Tanh",)),
    "GRU": recurrent(_gru, 3, 1, ("Sigmoid", "Tanh")),
    "LSTM": recurrent(_lstm, 4, 2, ("Sigmoid", "Tanh", "Tanh")),
}
