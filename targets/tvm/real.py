"""Real arithmetic between integer kernels: float32 islands of QUANTIZED programs."""

from __future__ import annotations

from typing import Any

ELEMENTWISE: dict[str, Any] = {}
REAL_STAGES: dict[str, Any] = {}
