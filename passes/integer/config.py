"""Configuration of the integer passes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from qcompiler.ir.fixed_point import SHIFTS
from qcompiler.passes.base import PassConfig

Form = Literal["auto", "lookup", "interpolated", "shift"]


class IntegerConfig(PassConfig):
    """How a program of level QUANTIZED becomes one of level INTEGER.

    profile: rounding of every requantize of the program. mult_bits: width of its multipliers; 17 and 15 are for
    parts with narrow multiplier inputs, dyadic_double is defined for 31 only. residual_bits: of values between
    layers that were real numbers, among them residual sums. function_bits: of what a linear layer gives to
    nonlinear functions alone; 16 bits are interpolated in a table, 8 take a table with an entry for each code and half
    the memory; `auto` is 16 where rounding to 8 leaves the function less than `function_db`. activation, softmax: form of the nonlinearities,
    `auto` takes the one with the least error on the calibration data. score_step: step of the scores that a
    softmax by table reads. headroom: factor on the measured range of 16-bit values. samples: of the calibration
    data, read to measure ranges.
    """

    profile: Literal["dyadic", "dyadic_double", "shift_half_even"] = "dyadic"
    mult_bits: Literal[31, 17, 15] = 31
    residual_bits: Literal[16, 8] = 16
    function_bits: Literal["auto", 16, 8] = "auto"
    function_db: float = Field(35.0, json_schema_extra={"search": [30.0, 35.0, 40.0]})
    activation: Form = "auto"
    softmax: Literal["auto", "lookup", "shift", "log2"] = "auto"
    score_step: float = Field(1 / 64, gt=0, json_schema_extra={"search": [1 / 32, 1 / 64, 1 / 128]})
    headroom: float = Field(1.25, ge=1, json_schema_extra={"search": [1.0, 1.25, 1.5]})
    samples: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _known(self) -> IntegerConfig:
        assert self.profile in SHIFTS
        if self.profile == "dyadic_double" and self.mult_bits != 31:
            raise ValueError("dyadic_double has multipliers of 31 bits")
        return self
