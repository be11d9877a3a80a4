"""model.h, model.c and model_data.*: the generated part of a project."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from qcompiler.kernels.mcu import pack
from qcompiler.kernels.mcu.layouts import LAYOUTS
from qcompiler.targets.mcu.arena import Arena
from qcompiler.targets.mcu.budget import step_data
from qcompiler.targets.mcu.c_text import array_declaration, array_text, comment, pointer_text, struct_text
from qcompiler.targets.mcu.legalize import c_name
from qcompiler.targets.mcu.parts import Part
from qcompiler.targets.mcu.program import At, Data, Program, Scratch, Step, Struct, Tensor, Widths

LAYOUT_NAMES = {"plain": "QC_LAYOUT_PLAIN", "pairs": "QC_LAYOUT_PAIRS", "fours": "QC_LAYOUT_FOURS"}


@dataclass(frozen=True)
class ModelText:
    """Prints one program.

    Attributes:
        program: the calls.
        arena: where everything lies.
        part: what it was compiled for.
        title: first line of every file.
    """

    program: Program
    arena: Arena
    part: Part
    title: str

    @cached_property
    def structs(self) -> tuple[Struct, ...]:
        """Parameter structs in order of first use."""
        found = [a for step in self.program.steps for a in step.arguments if isinstance(a, Struct)]
        return tuple(dict.fromkeys(found))

    @cached_property
    def data(self) -> tuple[Data, ...]:
        """Constant arrays in order of first use."""
        return tuple(dict.fromkeys(d for step in self.program.steps for d in step_data(step)))

    def header(self) -> str:
        """model.h: all that an application includes."""
        inputs = [(c_name(n), t) for n, t in zip(self.program.input_names, self.program.inputs, strict=True)]
        outputs = [(c_name(n), t) for n, t in zip(self.program.output_names, self.program.outputs, strict=True)]
        single = len(inputs) == len(outputs) == 1
        lines = [self._head(), "#ifndef QC_MODEL_H\n#define QC_MODEL_H\n\n#include <stdint.h>\n"]
        lines.append("/* Static memory the model works in. It is inside the model and needs no set-up. */")
        lines.append(f"#define QC_MODEL_ARENA_BYTES {self.arena.size}\n")
        for role, tensors in (("INPUT", inputs), ("OUTPUT", outputs)):
            for name, tensor in tensors:
                prefix = f"QC_MODEL_{role}" + ("" if len(tensors) == 1 else f"_{name.upper()}")
                lines.append(_describe(prefix, role.lower(), name, tensor))
        lines.append(_QUANTIZE)
        if single:
            x, y = inputs[0][1].c_type, outputs[0][1].c_type
            lines.append(f"{_RUN}\nvoid qc_model_run(const {x} *input, {y} *output);\n")
        else:
            lines.append(_typed("inputs", "const ", inputs) + "\n" + _typed("outputs", "", outputs))
            lines.append(f"{_RUN}\nvoid qc_model_run(const qc_model_inputs *inputs, const qc_model_outputs *outputs);\n")
        lines.append("#endif")
        return "\n".join(lines) + "\n"

    def source(self) -> str:
        """model.c: parameters and the calls."""
        single = len(self.program.inputs) == len(self.program.outputs) == 1
        x = self.program.inputs[0].c_type if self.program.inputs else "int8_t"
        y = self.program.outputs[0].c_type
        signature = (
            f"void qc_model_run(const {x} *input, {y} *output)"
            if single
            else "void qc_model_run(const qc_model_inputs *inputs, const qc_model_outputs *outputs)"
        )
        body = "\n".join(self._step(index, step, single) for index, step in enumerate(self.program.steps))
        return (
            f'{self._head()}#include "model.h"\n\n'
            f"#define QC_EXPECT_LAYOUT {LAYOUT_NAMES[LAYOUTS[self.part.core.isa]]} /* what the weights are packed for */\n"
            f'#include "model_data.h"\n#include "qc_kernels.h"\n\n{_PROFILE_CHECK % pack.PROFILES[self.program.profile]}\n'
            f"{self._arena_text()}\n{_TRACE}\n"
            + "\n".join(struct_text(s) for s in self.structs)
            + f"\n{signature}\n{{\n{self._unused(single)}{body}\n}}\n"
        )

    def data_header(self) -> str:
        """model_data.h: declarations of weights and tables."""
        body = "\n".join(array_declaration(d) for d in self.data)
        return f"{self._head()}#ifndef QC_MODEL_DATA_H\n#define QC_MODEL_DATA_H\n\n#include <stdint.h>\n\n{body}\n\n#endif\n"

    def data_source(self) -> str:
        """model_data.c: weights and tables."""
        body = "\n".join(array_text(d) for d in self.data)
        return f'{self._head()}#include "model_data.h"\n\n{_ENDIAN}\n{body}'

    def _head(self) -> str:
        return f"/* {comment(self.title)} */\n"

    def _arena_text(self) -> str:
        if not self.arena.size:
            return ""
        words = -(-self.arena.size // 8)
        return f"/* 64-bit elements: scratch memory needs their alignment. */\nstatic int64_t arena[{words}];\n#define ARENA ((int8_t *)(void *)arena)\n"

    def _unused(self, single: bool) -> str:
        used = {t.storage.place for s in self.program.steps for t in s.reads}
        return "" if "input" in used else f"    (void){'input' if single else 'inputs'};\n"

    def _step(self, index: int, step: Step, single: bool) -> str:
        ops = " + ".join(node.op for node in step.nodes)
        call = f"{step.function}({', '.join(self._argument(a, step, single) for a in step.arguments)});"
        written = self._pointer(At(step.writes), step, single, written=True)
        trace = f"    TRACE({index}, {written}, {step.writes.storage.size});"
        head = f"    /* {index}: {comment(step.module) or 'top level'}: {ops}{', ' + step.note if step.note else ''} */\n"
        if step.repeat == 1:
            return f"{head}    {call}\n{trace}"
        return f"{head}    for (int32_t i = 0; i < {step.repeat}; i++) {{\n        {call}\n    }}\n{trace}"

    def _argument(self, argument: object, step: Step, single: bool) -> str:
        if isinstance(argument, At):
            return self._pointer(argument, step, single, written=argument.tensor is step.writes)
        if isinstance(argument, Scratch):
            return f"ARENA + {self.arena.scratch[step]}" if step.scratch else "0"
        if isinstance(argument, Struct):
            return f"&{argument.name}"
        if isinstance(argument, Data):
            return argument.name
        if isinstance(argument, Widths):
            return f"(qc_widths){{{argument.a}, {argument.b}, {argument.y}}}"
        assert isinstance(argument, int)
        return str(argument)

    def _pointer(self, at: At, step: Step, single: bool, written: bool) -> str:
        tensor = at.tensor
        move = f"i * {at.stride}" if step.repeat > 1 and at.stride else ""
        storage = tensor.storage
        if storage.place == "arena":
            offset = self.arena.tensors[storage] + at.first
            return pointer_text(tensor, offset, "ARENA", move, constant=not written)
        if storage.place == "flash":
            base = storage.name
        elif single:
            base = storage.place
        else:
            names = self.program.input_names if storage.place == "input" else self.program.output_names
            base = f"{storage.place}s->{c_name(names[storage.index])}"
        retyped = storage.place == "input" and tensor.c_type != self.program.inputs[storage.index].c_type
        if not (at.first or move or retyped):
            return base
        qualifier = "const " if storage.place != "output" else ""
        return pointer_text(tensor, at.first, f"({qualifier}int8_t *)({base})", move, constant=not written)


def _describe(prefix: str, role: str, name: str, tensor: Tensor) -> str:
    shape = "".join(f"[{tensor.shape[a]}]" for a in tensor.order) or "[1]"
    axes = "" if tensor.order == tuple(range(len(tensor.order))) else f", axes {tensor.order} of the model's: channels last"
    lines = [f"/* {role} {comment(name)}: {tensor.c_type} {shape}{axes} */", f"#define {prefix}_SIZE {tensor.count}"]
    quant = tensor.quant
    if quant is not None and quant.per_tensor:
        scale = float(quant.scale)
        lines += [
            f"#define {prefix}_SCALE {scale!r}f",
            f"#define {prefix}_ZERO_POINT ({int(quant.zero_point)})",
            f"#define {prefix}_QUANTIZE(real) \\\n    (({tensor.c_type})qc_model_quantize((real), {prefix}_SCALE, {prefix}_ZERO_POINT,"
            f" {tensor.dtype.min}, {tensor.dtype.max}))",
            f"#define {prefix}_DEQUANTIZE(code) ((float)((int32_t)(code) - {prefix}_ZERO_POINT) * {prefix}_SCALE)",
        ]
    return "\n".join(lines) + "\n"


def _typed(role: str, qualifier: str, tensors: list[tuple[str, Tensor]]) -> str:
    fields = "".join(f"    {qualifier}{t.c_type} *{name}; /* {t.count} elements */\n" for name, t in tensors)
    return f"typedef struct {{\n{fields}}} qc_model_{role};\n"


_RUN = """/* One inference. Not reentrant: calls share the arena. Inputs and outputs are the caller's and do not overlap; any
 * code is a valid input. */"""

_QUANTIZE = """/* What the QUANTIZE macros call: rounds half to even and saturates, as the compiler does; NaN gives `low`. The model
 * itself uses no floating point. */
static inline int32_t qc_model_quantize(float real, float scale, int32_t zero_point, int32_t low, int32_t high)
{
    const float steps = real / scale;
    if (!(steps > (float)(low - zero_point))) {
        return low;
    }
    if (steps >= (float)(high - zero_point)) {
        return high;
    }
    int32_t whole = (int32_t)steps;
    const float rest = steps - (float)whole;
    const int32_t odd = whole & 1;
    if ((rest > 0.5f) || ((rest >= 0.5f) && (odd != 0))) {
        whole++;
    } else if ((rest < -0.5f) || ((rest <= -0.5f) && (odd != 0))) {
        whole--;
    }
    return whole + zero_point;
}
"""

_PROFILE_CHECK = """#include "qc_fixed_point.h"
#if QC_PROFILE != %s
#error "the model was compiled for another rounding profile; define QC_PROFILE as the Makefile does"
#endif
"""

_TRACE = """/* With QC_TRACE a test sees the result of every call. */
#if defined(QC_TRACE)
void qc_trace(int32_t step, const void *data, int32_t bytes);
#define TRACE(step, data, bytes) qc_trace((step), (data), (bytes))
#else
#define TRACE(step, data, bytes) ((void)0)
#endif
"""

_ENDIAN = """#if defined(__BYTE_ORDER__) && (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
#error "packed weights are little-endian words"
#endif
"""
