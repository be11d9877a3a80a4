"""Arrays and tensors of the same numbers, bfloat16 too: NumPy has it from `ml_dtypes`, and torch reads neither way."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from ..ir import DType


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor that shares the array's memory where torch can; never written to."""
    if array.dtype == DType.bfloat16.numpy:
        return to_tensor(array.view(np.int16)).view(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's memory as a NumPy array, shared where it is contiguous and on the CPU."""
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(DType.bfloat16.numpy)
    array: np.ndarray = tensor.resolve_conj().numpy()
    return array
