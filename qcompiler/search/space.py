"""The search space: global knobs and one choice per group of layers, with hash, sampling, enumeration, neighbours.

A configuration is a tuple of option indices, one per knob: global knobs first, then groups in program order. Its
canonical form has index 0 for every knob that is switched off by the others (how ranges are clipped says nothing
where no layer has static ranges), so that equal programs have equal keys; its JSON form leaves those knobs out.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qcompiler.errors import UsageError
from qcompiler.search.choices import Choice
from qcompiler.search.groups import Group

Config = tuple[int, ...]
PERMUTED = 1 << 20
"""Spaces up to this size are enumerated by a true permutation; larger ones by an affine map of the index."""


@dataclass(frozen=True)
class Option:
    """One value of a global knob: its name, and the fields of the recipe that it sets."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class GlobalKnob:
    """A choice for the whole model.

    Attributes:
        name: `calibration`, `clipping`, ...
        options: at least one.
        schemes: the knob means something only where a group has one of these schemes; empty: always.
    """

    name: str
    options: tuple[Option, ...]
    schemes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Space:
    """All legal configurations of a model on a target. Without groups, the recipe alone says what layers become."""

    knobs: tuple[GlobalKnob, ...]
    groups: tuple[Group, ...]

    # shape

    @cached_property
    def radix(self) -> tuple[int, ...]:
        """Number of options of each knob."""
        return (*(len(k.options) for k in self.knobs), *(len(g.choices) for g in self.groups))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of each knob."""
        return (*(k.name for k in self.knobs), *(g.name for g in self.groups))

    @cached_property
    def size(self) -> int:
        """Number of distinct configurations that quantize something, exactly.

        Over the sets of schemes that occur: products over the groups, by inclusion and exclusion, times the options
        of the knobs that mean something there.
        """
        if not self.groups:
            return math.prod(len(k.options) for k in self.knobs)
        schemes = sorted({c.scheme for g in self.groups for c in g.choices})
        within: dict[frozenset[str], int] = {}
        for count in range(len(schemes) + 1):
            for subset in itertools.combinations(schemes, count):
                allowed = frozenset(subset)
                within[allowed] = math.prod(sum(c.scheme in allowed for c in g.choices) for g in self.groups)
        total = 0
        for present in within:
            if present <= {"float"}:
                continue
            exactly = sum((-1) ** (len(present) - len(s)) * n for s, n in within.items() if s <= present)
            total += exactly * math.prod(len(k.options) for k in self.knobs if _active(k, present))
        return total

    @cached_property
    def hash(self) -> str:
        """sha256 over every knob and option: two spaces with one hash give a configuration one meaning."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "knobs": [
                {
                    "name": k.name,
                    "options": [[o.name, dict(o.changes)] for o in k.options],
                    "schemes": sorted(k.schemes),
                }
                for k in self.knobs
            ],
            "groups": [
                {"name": g.name, "members": g.members, "choices": [c.to_dict() for c in g.choices]}
                for g in self.groups
            ],
        }

    # one configuration

    def choice(self, config: Config, group: int) -> Choice:
        """The choice of a group (by its number)."""
        return self.groups[group].choices[config[len(self.knobs) + group]]

    def choices(self, config: Config) -> list[Choice]:
        """The choice of every group."""
        return [g.choices[i] for g, i in zip(self.groups, config[len(self.knobs) :], strict=True)]

    def canonical(self, config: Config) -> Config:
        """The configuration with index 0 wherever a knob means nothing."""
        present = {c.scheme for c in self.choices(config)}
        head = (i if _active(k, present) else 0 for k, i in zip(self.knobs, config, strict=False))
        return (*head, *config[len(self.knobs) :])

    def is_legal(self, config: Config) -> bool:
        """True if every index is in range and something is quantized."""
        fits = len(config) == len(self.radix) and all(0 <= i < n for i, n in zip(config, self.radix, strict=True))
        return fits and (not self.groups or any(c.scheme != "float" for c in self.choices(config)))

    def describe(self, config: Config) -> dict[str, Any]:
        """JSON form of a configuration, by names; knobs that mean nothing are absent."""
        present = {c.scheme for c in self.choices(config)}
        return {
            "global": {
                k.name: k.options[i].name
                for k, i in zip(self.knobs, config, strict=False)
                if _active(k, present)
            },
            "groups": {g.name: c.name for g, c in zip(self.groups, self.choices(config), strict=True)},
        }

    def parse(self, data: Mapping[str, Any]) -> Config:
        """The inverse of `describe`.

        Raises:
            UsageError: a name that this space does not have.
        """
        try:
            head = tuple(_index(k.name, [o.name for o in k.options], data["global"]) for k in self.knobs)
            tail = tuple(_index(g.name, [c.name for c in g.choices], data["groups"], True) for g in self.groups)
        except (KeyError, TypeError) as error:
            raise UsageError(f"not a configuration of this search space: {error}") from error
        return self.canonical((*head, *tail))

    def key(self, config: Config) -> str:
        """Canonical hash: equal for configurations that mean the same program, in this space."""
        text = json.dumps(self.describe(config), sort_keys=True)
        return hashlib.sha256(f"{self.hash}\0{text}".encode()).hexdigest()

    # many configurations

    def uniform(self, choice: str) -> Config:
        """Every group at the choice of that name, or where it has none, at its first; first option of every knob.

        Raises:
            UsageError: no group has such a choice.
        """
        tail = [next((i for i, c in enumerate(g.choices) if c.name == choice), None) for g in self.groups]
        if all(i is None for i in tail):
            raise UsageError(f"no group of layers has the choice {choice!r}")
        return self.canonical((*(0 for _ in self.knobs), *(i or 0 for i in tail)))

    def sample_groups(self, rng: np.random.Generator, count: int) -> list[Config]:
        """Distinct configurations with random choices of the groups and the first option of every knob.

        All there are, in order, where they are no more than `count`.
        """
        bare = Space((), self.groups)
        head = (0,) * len(self.knobs)
        found = (self.canonical((*head, *c)) for c in bare.sample(rng, count))
        return list(dict.fromkeys(found))

    def sample(self, rng: np.random.Generator, count: int) -> list[Config]:
        """Distinct configurations, uniform over the space; all of it where it holds no more than `count`."""
        if self.size <= count:
            return list(self.enumerate(0))
        found: dict[Config, None] = {}
        while len(found) < count:
            raw = tuple(int(rng.integers(n)) for n in self.radix)
            # Rejecting what is not canonical keeps the distribution uniform over distinct programs.
            if self.is_legal(raw) and self.canonical(raw) == raw:
                found.setdefault(raw)
        return list(found)

    def enumerate(self, seed: int) -> Iterator[Config]:
        """Every configuration once, in an order that the seed gives."""
        total = math.prod(self.radix)
        for index in _permuted(total, seed):
            config = self._unrank(index)
            if self.is_legal(config) and self.canonical(config) == config:
                yield config

    def neighbours(self, config: Config) -> list[Config]:
        """Legal configurations that differ in one knob."""
        found: dict[Config, None] = {}
        for place, count in enumerate(self.radix):
            for option in range(count):
                changed = self.canonical((*config[:place], option, *config[place + 1 :]))
                if changed != config and self.is_legal(changed):
                    found.setdefault(changed)
        return list(found)

    def mutate(self, config: Config, rng: np.random.Generator, count: int) -> Config:
        """`count` knobs set anew at random; legal."""
        while True:
            changed = list(config)
            for place in rng.choice(len(self.radix), size=min(count, len(self.radix)), replace=False):
                changed[place] = int(rng.integers(self.radix[place]))
            if self.is_legal(tuple(changed)):
                return self.canonical(tuple(changed))

    def _unrank(self, index: int) -> Config:
        digits = []
        for count in reversed(self.radix):
            index, digit = divmod(index, count)
            digits.append(digit)
        return tuple(reversed(digits))


def _active(knob: GlobalKnob, present: set[str] | frozenset[str]) -> bool:
    return not knob.schemes or not present or bool(knob.schemes & present)


def _index(name: str, options: Sequence[str], values: Mapping[str, str], required: bool = False) -> int:
    if name not in values and not required:
        return 0
    if values[name] not in options:
        raise UsageError(f"{name}: {values[name]!r} is none of {', '.join(options)}")
    return options.index(values[name])


def _permuted(total: int, seed: int) -> Iterator[int]:
    """0..total-1, each once."""
    rng = np.random.default_rng([seed, 17])
    if total <= PERMUTED:
        yield from (int(i) for i in rng.permutation(total))
        return
    # index -> (a index + b) mod total is a bijection for a coprime to total; numbers beyond 64 bits are Python's.
    draw = lambda: int.from_bytes(rng.bytes(total.bit_length() // 8 + 8), "little") % total  # noqa: E731
    step, start = draw() | 1, draw()
    while math.gcd(step, total) != 1:
        step = draw() | 1
    for i in range(total):
        yield (step * i + start) % total
