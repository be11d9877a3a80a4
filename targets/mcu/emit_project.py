"""The files of a project around the model: kernels, self-check, linker script, Makefile, CMakeLists.txt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2
import numpy as np

from qcompiler.errors import UsageError
from qcompiler.kernels.mcu import pack, sources
from qcompiler.targets.mcu.c_text import as_words
from qcompiler.targets.mcu.parts import Part
from qcompiler.targets.mcu.program import Program, Step, Struct, Tensor
from qcompiler.targets.mcu.toolchain import ARM_FLAGS, HOST_FLAGS, PREFIX

HERE = Path(__file__).parent / "project"
COMMON = ("main.c", "print.h", "print_host.c")
BOARD = ("print_semihosting.c", "print_uart.c", "semihosting.h", "semihosting.c", "startup.c", "stream.c")
SELF_CHECK_BYTES = 1 << 16
"""Vectors that are compiled in hold about this many input bytes; there is one at least."""

LIBRARY_CALLS = frozenset(
    {"memcpy", "memset", "memmove", "__aeabi_memcpy", "__aeabi_lmul", "__aeabi_idiv", "__aeabi_idivmod", "__aeabi_llsl"}
    | {"__aeabi_lasr", "__aeabi_llsr", "__aeabi_uldivmod"}
)
"""All that the model library calls outside itself: string.h, and integer support routines of the compiler."""

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    keep_trailing_newline=True,
)  # fmt: skip


def definitions(program: Program) -> tuple[str, ...]:
    """Options for the compiler that state how the kernels compute."""
    found = [f"-DQC_PROFILE={pack.PROFILES[program.profile]}"]
    return (*found, "-DQC_INT4=1") if uses_int4(program) else tuple(found)


def uses_int4(program: Program) -> bool:
    """True if a layer has weights of 4 bits."""
    structs = [a for step in program.steps for a in step.arguments if isinstance(a, Struct)]
    return any(struct.fields.get("weight_bits") == 4 for struct in structs)


def kernel_files(program: Program) -> list[Path]:
    """C files of the kernels that a program calls, directly or not."""
    names = {step.function.removeprefix("qc_") for step in program.steps}
    names = {_FILES.get(name, name) for name in names}
    found = set(sources.kernel_sources(names))
    if uses_int4(program):
        found |= {sources.FOLDER / f"{name}.c" for name in sources.INT4}
    return sorted(found)


_FILES = {"conv2d_add_s8": "conv2d_s8"}
"""Functions that share a file with another."""


def surroundings(program: Program, part: Part, vectors: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, str]:
    """All but the model itself, by path.

    Args:
        program: for the kernels it needs.
        part: what it is compiled for.
        vectors: (input bytes, output bytes) of the self-check, in the flat form.
    """
    kernels = kernel_files(program)
    texts: dict[str, str] = {f"kernels/{p.name}": p.read_text(encoding="utf-8") for p in kernels}
    texts |= {f"kernels/{name}": (sources.FOLDER / name).read_text(encoding="utf-8") for name in sources.HEADERS}
    texts |= {"test/flat.h": flat_header(program), "test/flat.c": flat_source(program)}
    if not vectors:
        return texts
    own = COMMON if part.core.board is None else (*COMMON, *BOARD)
    texts |= {f"test/{name}": (HERE / name).read_text(encoding="utf-8") for name in own}
    texts |= _vectors(vectors)
    facts = {
        "part": part,
        "board": part.core.board,
        "prefix": PREFIX,
        "definitions": definitions(program),
        "cpu": part.core.flags,
        "flags": HOST_FLAGS if part.core.board is None else ARM_FLAGS,
    }
    names = ["Makefile", "CMakeLists.txt"] + ([] if part.core.board is None else ["board.ld"])
    return texts | {name: _TEMPLATES.get_template(f"{name}.j2").render(facts) for name in names}


def write_texts(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write files below a folder, by their paths."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def padded_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor in the flat form."""
    return -(-tensor.count * tensor.item // 8) * 8


def flat_header(program: Program) -> str:
    """Sizes of the flat form, and its function."""
    sizes = [sum(map(padded_bytes, tensors)) for tensors in (program.inputs, program.outputs)]
    return (
        "/* The model behind one signature for all tests: inputs and outputs one after the other, each at a multiple of\n"
        " * 8 bytes. */\n#ifndef QC_FLAT_H\n#define QC_FLAT_H\n\n#include <stdint.h>\n\n"
        f"#define QC_FLAT_INPUT_BYTES {sizes[0]}\n#define QC_FLAT_OUTPUT_BYTES {sizes[1]}\n"
        f"#define QC_FLAT_INPUT_WORDS {max(1, sizes[0] // 8)}\n#define QC_FLAT_OUTPUT_WORDS {max(1, sizes[1] // 8)}\n\n"
        "void qc_flat_run(const int64_t *input, int64_t *output);\n\n#endif\n"
    )


def flat_source(program: Program) -> str:
    """The flat form in terms of qc_model_run."""
    pointers: dict[str, list[str]] = {}
    for role, tensors, const in (("input", program.inputs, "const "), ("output", program.outputs, "")):
        offset, found = 0, []
        for tensor in tensors:
            word = f"{role} + {offset}" if offset else role
            found.append(f"({const}{tensor.c_type} *)({const}void *)({word})")
            offset += padded_bytes(tensor) // 8
        pointers[role] = found
    if len(program.inputs) == len(program.outputs) == 1:
        body = f"    qc_model_run({pointers['input'][0]}, {pointers['output'][0]});\n"
    else:
        body = "".join(
            f"    const qc_model_{role}s {role}s = {{{', '.join(pointers[role])}}};\n" for role in ("input", "output")
        )
        body += "    qc_model_run(&inputs, &outputs);\n"
    return (
        '#include "flat.h"\n\n#include "model.h"\n\nvoid qc_flat_run(const int64_t *input, int64_t *output)\n{\n'
        f"{body}}}\n"
    )


def _vectors(vectors: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, str]:
    head = '#ifndef QC_VECTORS_H\n#define QC_VECTORS_H\n\n#include "flat.h"\n\n'
    declared = "".join(
        f"extern const int64_t qc_vector_{role}s[QC_VECTORS][QC_FLAT_{role.upper()}_WORDS];\n" for role in ("input", "output")
    )
    header = f"{head}#define QC_VECTORS {len(vectors)}\n\n{declared}\n#endif\n"
    parts = []
    for index, role in enumerate(("input", "output")):
        rows = [", ".join(_word(w) for w in as_words(v[index]).view("<i8")) for v in vectors]
        body = "".join(f"    {{{row}}},\n" for row in rows)
        parts.append(f"const int64_t qc_vector_{role}s[QC_VECTORS][QC_FLAT_{role.upper()}_WORDS] = {{\n{body}}};\n")
    return {"test/vectors.h": header, "test/vectors.c": '#include "vectors.h"\n\n' + "\n".join(parts)}


def _word(value: int) -> str:
    number = int(value)
    return f"INT64_C({number})" if number != -(1 << 63) else "INT64_MIN"


def _element(tensor: Tensor) -> np.dtype:
    """Of a tensor in C."""
    return np.dtype(tensor.c_type.removesuffix("_t"))


def flatten(tensors: Iterable[Tensor], arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The flat form of arrays in the model's own shapes: uint8.

    Raises:
        UsageError: integers that do not fit the elements in C.
    """
    parts = []
    for tensor, array in zip(tensors, arrays, strict=True):
        elements = array.astype(_element(tensor))
        if not np.array_equal(elements, array):
            raise UsageError(f"{tensor.storage.name!r} holds integers beyond 32 bits, which numbers of rows have on this target")
        raw = np.ascontiguousarray(elements.transpose(tensor.order)).reshape(-1).view(np.uint8)
        parts.append(np.pad(raw, (0, padded_bytes(tensor) - raw.size)))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def unflatten(tensors: Iterable[Tensor], raw: np.ndarray) -> list[np.ndarray]:
    """The arrays, in the model's shapes, of a flat form."""
    result, offset = [], 0
    for tensor in tensors:
        size = tensor.count * tensor.item
        array = raw[offset : offset + size].view(_element(tensor)).reshape([tensor.shape[a] for a in tensor.order])
        turned = array.transpose(np.argsort(tensor.order))
        result.append(np.array(turned, tensor.dtype.numpy, order="C"))  # ascontiguousarray makes vectors of scalars
        offset += padded_bytes(tensor)
    return result


def macs(steps: Iterable[Step]) -> int:
    """Multiply-accumulates of all steps."""
    return sum(step.macs for step in steps)
