"""Flash and RAM of an artefact, one part of the report's data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, NonNegativeInt, computed_field


class Memory(BaseModel):
    """Flash and RAM of an artefact for a microcontroller, in bytes, as known before linking.

    `arena_bytes` is the static memory of all tensors, `arena_bound_bytes` what no plan can go below. `code_bytes` and
    `stack_bytes` are null where the part's compiler was not installed, limits where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arena_bytes: NonNegativeInt
    arena_bound_bytes: NonNegativeInt
    arena_method: str
    constant_bytes: NonNegativeInt
    code_bytes: NonNegativeInt | None = None
    stack_bytes: NonNegativeInt | None = None
    flash_limit_bytes: NonNegativeInt | None = None
    ram_limit_bytes: NonNegativeInt | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def arena_ratio(self) -> float:
        """Arena / lower bound."""
        return self.arena_bytes / self.arena_bound_bytes if self.arena_bound_bytes else 1.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def flash_bytes(self) -> int | None:
        """Code and constants."""
        return None if self.code_bytes is None else self.code_bytes + self.constant_bytes

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ram_bytes(self) -> int | None:
        """Arena and worst stack."""
        return None if self.stack_bytes is None else self.arena_bytes + self.stack_bytes
