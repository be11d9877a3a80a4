"""Checkpoints of transformers that others quantized: codes, scales and zero points of their linear layers, unpacked.

Read are `compressed-tensors` (pack-quantized), `gptq` and `awq`, each as its `quantization_config` describes it. Nothing
is rounded again: a layer computes with `scale * (code - zero point)` of its checkpoint, and the codes reach the graph.

    compressed-tensors  weight_packed [N, K b/32], codes + 2^(b-1); weight_scale [N, G]; zero points packed along N
    gptq                qweight [K b/32, N]; scales [G, N]; qzeros [G, N b/32], one less before gptq_v2; g_idx [K]
    awq (gemm)          qweight [K, N/8], qzeros [G, N/8] of 4 bits, columns 0 2 4 6 1 3 5 7 of each eight; scales [G, N]

Words of 32 bits hold a stream of codes of b bits, the first in the lowest bits; older files of compressed-tensors leave
the bits of a word free that hold no whole code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedError, UsageError

METHODS = ("compressed-tensors", "gptq", "awq")
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
MARKS = (".weight_packed", ".qweight")
"""Endings of the names of packed codes."""

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PackedLinear:
    """One linear layer.

    Attributes:
        codes: [N, K] int8 or uint8.
        scale: [N, G] float32.
        zero: [N, G] int32.
        bits: of the codes.
        order: input channels in the order of the codes' columns, None as they are.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    bits: int
    order: np.ndarray | None = None

    @property
    def group(self) -> int:
        """Input channels that share a scale."""
        return -(-self.codes.shape[1] // self.scale.shape[1])

    @property
    def limits(self) -> tuple[int, int]:
        """Least and largest code."""
        half = 1 << (self.bits - 1)
        return (-half, half - 1) if self.codes.dtype == np.int8 else (0, 2 * half - 1)


def unpack_stream(words: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first `count` codes of each row of 32-bit words: [..., W] to uint8 [..., count]; codes cross words."""
    whole = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape[:-1], -1)
    stream = np.unpackbits(whole, axis=-1, bitorder="little")
    if stream.shape[-1] < count * bits:
        raise ValueError(f"{words.shape[-1]} words hold no {count} codes of {bits} bits")
    parts = stream[..., : count * bits].reshape(*words.shape[:-1], count, bits)
    return np.asarray((parts << np.arange(bits, dtype=np.uint8)).sum(-1, dtype=np.uint8))


def _unpack_words(words: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Codes of a stream, or of words that hold whole codes only, by how many words there are."""
    if words.shape[-1] == -(-count * bits // 32):
        return unpack_stream(words, bits, count)
    each = 32 // bits
    if words.shape[-1] != -(-count // each):
        raise ValueError(f"{words.shape[-1]} words for {count} codes of {bits} bits")
    shifts = (np.arange(each) * bits).astype(np.uint32)
    codes = (words.view(np.uint32)[..., None] >> shifts) & np.uint32((1 << bits) - 1)
    return codes.reshape(*words.shape[:-1], -1)[..., :count].astype(np.uint8)


def read_packed(config: Mapping[str, Any], tensors: Tensors) -> dict[str, PackedLinear]:
    """Layers by module path.

    Args:
        config: the `quantization_config` of config.json.
        tensors: of the checkpoint, by name.

    Raises:
        UnsupportedError: a method or a layout that is not read.
        UsageError: tensors that are missing, or do not fit each other.
    """
    method = str(config.get("quant_method", ""))
    if method not in METHODS:
        raise UnsupportedError(f"the checkpoint is quantized by {method or 'no known method'}; read are {', '.join(METHODS)}")
    read = {"compressed-tensors": _compressed, "gptq": _gptq, "awq": _awq}[method]
    paths = sorted(n.rpartition(".")[0] for n in tensors if n.endswith(MARKS))
    if not paths:
        raise UsageError(f"the config says {method}, and no tensor ends in {' or '.join(MARKS)}")
    found = {}
    for path in paths:
        try:
            found[path] = read(config, {n[len(path) + 1 :]: a for n, a in tensors.items() if n.startswith(f"{path}.")})
        except KeyError as error:
            raise UsageError(f"{path}: tensor {error.args[0]} is missing") from None
        except (ValueError, IndexError, TypeError) as error:
            raise UsageError(f"{path}: {error}") from None
    return found


def _checked(codes: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int, order: np.ndarray | None = None) -> PackedLinear:
    rows, channels = codes.shape
    if scale.shape[0] != rows or zero.shape != scale.shape or channels % scale.shape[1]:
        raise ValueError(f"codes {codes.shape}, scales {scale.shape} and zero points {zero.shape} do not fit")
    return PackedLinear(codes, scale, zero, bits, order)


def _compressed(config: Mapping[str, Any], tensors: Tensors) -> PackedLinear:
    form = config.get("format")
    groups = list((config.get("config_groups") or {}).values())
    if form != "pack-quantized" or len(groups) != 1:
        raise UnsupportedError(f"compressed-tensors in format {form} with {len(groups)} groups; pack-quantized with one is read")
    weights = groups[0]["weights"]
    if groups[0].get("input_activations") or weights.get("type") != "int":
        raise UnsupportedError("compressed-tensors with quantized activations, or weights that are no integers")
    bits, (rows, channels) = int(weights["num_bits"]), (int(d) for d in tensors["weight_shape"])
    middle = 1 << (bits - 1)
    codes = _unpack_words(tensors["weight_packed"], bits, channels).astype(np.int16) - middle
    scale = tensors["weight_scale"].astype(np.float32).reshape(rows, -1)
    zero = np.zeros(scale.shape, np.int32)
    if "weight_zero_point" in tensors:
        packed = np.ascontiguousarray(tensors["weight_zero_point"].T)  # [G, N b/32]
        zero = np.ascontiguousarray(_unpack_words(packed, bits, rows).T).astype(np.int32) - middle
    elif not weights.get("symmetric", True):
        raise KeyError("weight_zero_point")
    codes, order = _in_groups(codes.astype(np.int8), tensors.get("weight_g_idx"), scale.shape[1])
    return _checked(codes, scale, zero, bits, order)


def _gptq(config: Mapping[str, Any], tensors: Tensors) -> PackedLinear:
    bits = int(config["bits"])
    rows = tensors["qweight"].shape[1]
    channels = tensors["qweight"].shape[0] * 32 // bits
    codes = unpack_stream(np.ascontiguousarray(tensors["qweight"].T), bits, channels)
    scale = np.ascontiguousarray(tensors["scales"].astype(np.float32).T)
    # AutoGPTQ stored one less, which wraps around at the largest code.
    late = config.get("checkpoint_format", "gptq") == "gptq_v2"
    zero = unpack_stream(tensors["qzeros"], bits, rows).astype(np.int32).T + (0 if late else 1)
    codes, order = _in_groups(codes, tensors.get("g_idx"), scale.shape[1])
    return _signed(codes, scale, zero & ((1 << bits) - 1), bits, order)


def _awq(config: Mapping[str, Any], tensors: Tensors) -> PackedLinear:
    version, bits = str(config.get("version", "gemm")).lower(), int(config.get("bits", config.get("w_bit", 4)))
    if version != "gemm" or bits != 4:
        raise UnsupportedError(f"awq of version {version} with {bits} bits; gemm with 4 bits is read")
    scale = np.ascontiguousarray(tensors["scales"].astype(np.float32).T)
    codes, zero = (_awq_columns(tensors[name]) for name in ("qweight", "qzeros"))
    return _signed(np.ascontiguousarray(codes.T), scale, zero.T.astype(np.int32), bits, None)


def _awq_columns(words: np.ndarray) -> np.ndarray:
    """[R, N/8] to [R, N]."""
    codes = unpack_stream(words, 4, words.shape[1] * 8).reshape(words.shape[0], -1, 8)
    straight = np.empty_like(codes)
    straight[..., list(AWQ_ORDER)] = codes
    return straight.reshape(words.shape[0], -1)


def _signed(codes: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int, order: np.ndarray | None) -> PackedLinear:
    """Zero points in the middle are no zero points of signed codes."""
    middle = 1 << (bits - 1)
    if (zero == middle).all():
        return _checked((codes.astype(np.int16) - middle).astype(np.int8), scale, np.zeros_like(zero), bits, order)
    return _checked(codes, scale, np.ascontiguousarray(zero), bits, order)


def _in_groups(codes: np.ndarray, groups: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Columns of one group beside each other, and which channels they are; None if they lie so."""
    channels = codes.shape[1]
    if groups is None or np.array_equal(groups, np.arange(channels) // -(-channels // count)):
        return codes, None
    if len(groups) != channels or not np.array_equal(np.bincount(groups, minlength=count), np.full(count, channels // count)):
        raise ValueError("g_idx gives the groups different sizes")
    order = np.argsort(groups, kind="stable")
    return np.ascontiguousarray(codes[:, order]), order.astype(np.int64)
