"""How many bits each layer gets: the choice that errs least within a number of bytes. Pure.

For every layer there are options (a scheme, its bytes, the error of the network's output when only this layer is
stored so). Errors of small independent changes add up, so the best choice is a multiple-choice knapsack: exact by
dynamic programming over bytes where the sizes allow it, else by Lagrange's multiplier, then filled up greedily.

"adaptive" chooses for each layer, "hierarchical" for each block of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studio.compress import schemes
from studio.compress.packing import round_trip, stored_bytes
from studio.compress.precisions import is_matrix
from studio.compress.schemes import Scheme
from studio.errors import InvalidTask

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]
Loss = Callable[[Weights], float]  # error of the network with these weights in place of its own, 0 for none
Tick = Callable[[int, int], None]

WIDTHS = (1, 2, 3, 4, 5, 6, 8)
TRIED = (2, 4)  # widths at which the network is really run; see `sensitivity`
FLOOR = 1e-7  # error of a layer that changed by its own size and was not missed: what is left over goes to it still
GROUP = 32
CELLS = 60_000  # of the dynamic programme's table; more bytes than that are counted in larger units


@dataclass(frozen=True)
class Option:
    """One way to store a layer or block. `error` is what it alone adds to the output's error."""

    scheme: Scheme
    bytes: int
    error: float


@dataclass(frozen=True)
class Allocation:
    """A chosen option for each layer (or block), with their sums."""

    chosen: Mapping[str, Option]
    bytes: int
    error: float


def candidates(group: int = GROUP) -> tuple[Scheme, ...]:
    """The schemes that layers choose from, fewest bits first."""
    return tuple(schemes.symmetric(width, group) for width in WIDTHS)


# ── measuring ────────────────────────────────────────────────────────────────


def sensitivity(
    weights: Weights,
    units: Mapping[str, Sequence[str]],
    loss: Loss,
    offers: Sequence[Scheme],
    tick: Tick | None = None,
    tried: Sequence[int] = TRIED,
) -> dict[str, list[Option]]:
    """What every option of every unit costs alone, all else as it is.

    The network is run with each unit at the widths in `tried`. For the others the nearest of these is scaled by the
    squared error of the weights themselves, which small errors of the output follow.

    Args:
        weights: all arrays of the network by name.
        units: name of a layer or block -> the arrays in it.
        loss: runs the network on calibration inputs with some arrays replaced; its squared error against the original.
        tick: called with units done, of how many; may raise to cancel.
        tried: bits; all that is offered where it is empty.
    """
    table: dict[str, list[Option]] = {}
    for unit, names in units.items():
        known: dict[int, tuple[float, float]] = {}  # bits -> error of the output, of the weights
        found: list[tuple[Scheme, int, float]] = []
        for scheme in offers:
            changed = {name: round_trip(weights[name], scheme, name) for name in names}
            off = sum(float(np.square(changed[name] - weights[name]).sum(dtype=np.float64)) for name in names)
            size = sum(stored_bytes(np.shape(weights[name]), scheme) for name in names)
            found.append((scheme, size, off))
            if not tried or scheme.bits in tried:
                known[scheme.bits] = float(loss(changed)), off
        own = sum(float(np.square(weights[name]).sum(dtype=np.float64)) for name in names)
        least = FLOOR / own if own else 0.0
        table[unit] = [Option(s, size, max(_told(s.bits, off, known), off * least)) for s, size, off in found]
        if tick is not None:
            tick(len(table), len(units))
    return table


def _told(width: int, off: float, known: Mapping[int, tuple[float, float]]) -> float:
    """The error at a width: measured, or from the nearest that was."""
    if not known:
        raise InvalidTask("None of the offered widths is tried.", "Offer one of those that are.")
    error, reference = known[min(known, key=lambda one: (abs(one - width), one))]
    return error * off / reference if reference else 0.0


def settle(
    weights: Weights,
    units: Mapping[str, Sequence[str]],
    loss: Loss,
    table: Mapping[str, Sequence[Option]],
    budget: int,
    floors: Sequence[int] = (1, 2, 3, 4),
) -> Allocation:
    """The allocation that errs least when the network is run with all of it at once.

    Errors of large changes do not simply add up, least of all at one bit; so one allocation is solved for each lowest
    allowed width, each is tried on the calibration inputs, and the best of them is taken. A uniform one that fits is
    among them. Raises InvalidTask where none fits.
    """
    best: tuple[float, Allocation] | None = None
    tried: set[tuple[Scheme, ...]] = set()
    for floor in floors:
        allowed = {unit: [one for one in options if one.scheme.bits >= floor] for unit, options in table.items()}
        for found in _solved(allowed, budget):
            mark = tuple(option.scheme for option in found.chosen.values())
            if mark in tried:
                continue
            tried.add(mark)
            chosen = {name: found.chosen[unit].scheme for unit, names in units.items() for name in names}
            error = loss({name: round_trip(weights[name], scheme, name) for name, scheme in chosen.items()})
            if best is None or error < best[0]:
                best = (error, found)
    return best[1] if best is not None else allocate(table, budget)


def _solved(table: Mapping[str, Sequence[Option]], budget: int) -> list[Allocation]:
    """The solution, and the one of equal widths for all, where they fit."""
    found = []
    with suppress(InvalidTask):
        found.append(allocate(table, budget))
    same = {unit: next(iter(options), None) for unit, options in table.items()}
    uniform = {unit: one for unit, one in same.items() if one is not None}
    if len(uniform) == len(table) and sum(one.bytes for one in uniform.values()) <= budget:
        found.append(_total(uniform))
    return found


def layers(weights: Weights) -> dict[str, list[str]]:
    """Each matrix on its own."""
    return {name: [name] for name, array in weights.items() if is_matrix(np.shape(array))}


def blocks(weights: Weights, least: int = 8) -> dict[str, list[str]]:
    """Matrices by the first parts of their names, as few parts as give `least` blocks: "down_blocks.1.attentions",
    "model.22", "mid_block.resnets.0"."""
    names = list(layers(weights))
    deepest = max((name.count(".") for name in names), default=0)
    for depth in range(1, deepest + 1):
        found: dict[str, list[str]] = {}
        for name in names:
            parts = name.split(".")
            found.setdefault(".".join(parts[: min(depth, max(1, len(parts) - 1))]), []).append(name)
        if len(found) >= least:
            return found
    return layers(weights)


def plan(allocation: Allocation, units: Mapping[str, Sequence[str]], weights: Weights) -> dict[str, Scheme]:
    """A scheme for every array: the chosen ones, fp16 for what is no matrix."""
    chosen = {name: allocation.chosen[unit].scheme for unit, names in units.items() for name in names}
    return {name: chosen.get(name, schemes.F16) for name in weights}


def uniform_bytes(weights: Weights, scheme: Scheme) -> int:
    """Bytes of all matrices stored one way: the budget that a mixed plan is compared at."""
    return sum(stored_bytes(np.shape(weights[name]), scheme) for name in layers(weights))


# ── solving ──────────────────────────────────────────────────────────────────


def allocate(table: Mapping[str, Sequence[Option]], budget: int) -> Allocation:
    """The options with the least sum of errors within `budget` bytes. Raises InvalidTask where nothing fits."""
    for unit, options in table.items():
        if not options:
            raise InvalidTask(f"{unit} has no way to be stored.", "Offer at least one.")
        if not all(math.isfinite(option.error) and option.bytes >= 0 for option in options):
            raise InvalidTask(f"{unit} was measured as no number.", "Leave that precision out.")
    least = sum(min(option.bytes for option in options) for options in table.values())
    if least > budget:
        raise InvalidTask(
            f"{budget} bytes are too few: the smallest choice takes {least}.", "Allow more, or offer fewer bits."
        )
    found = [by_lagrange(table, budget)]
    common = math.gcd(*(option.bytes for options in table.values() for option in options))
    step = max(common, -(-budget // CELLS), 1)
    exact = by_table(table, budget, step)
    if exact is not None:
        found.append(exact)
    return min(found, key=lambda one: one.error)


def by_table(table: Mapping[str, Sequence[Option]], budget: int, step: int) -> Allocation | None:
    """Dynamic programming over bytes counted in units of `step`, rounded up, so the budget always holds; exact where
    step divides all sizes. None where the rounding leaves nothing that fits."""
    cells = budget // step + 1
    best = np.zeros(cells)
    picks = np.zeros((len(table), cells), np.int16)
    for row, options in enumerate(table.values()):
        now = np.full(cells, np.inf)
        for index, option in enumerate(options):
            need = -(-option.bytes // step)
            if need >= cells:
                continue
            reached = np.full(cells, np.inf)
            reached[need:] = best[: cells - need] + option.error
            better = reached < now
            now[better], picks[row, better] = reached[better], index
        best = now
    if not np.isfinite(best[-1]):
        return None
    left, chosen = cells - 1, {}
    for row, (unit, options) in reversed(list(enumerate(table.items()))):
        chosen[unit] = options[picks[row, left]]
        left -= -(-chosen[unit].bytes // step)
    return _total({unit: chosen[unit] for unit in table})


def by_lagrange(table: Mapping[str, Sequence[Option]], budget: int) -> Allocation:
    """The price of a byte at which everybody's own best choice just fits, then what is left goes to whoever gains
    most."""

    def at(price: float) -> dict[str, Option]:
        return {unit: min(options, key=lambda one: one.error + price * one.bytes) for unit, options in table.items()}

    def fits(choice: Mapping[str, Option]) -> bool:
        return sum(option.bytes for option in choice.values()) <= budget

    low, high = 0.0, 1e-12
    chosen = at(high)
    while not fits(chosen) and high < 1e18:
        high *= 10
        chosen = at(high)
    if not fits(chosen):
        chosen = {unit: min(options, key=lambda one: one.bytes) for unit, options in table.items()}
    else:
        for _ in range(60):
            middle = (low + high) / 2
            choice = at(middle)
            if fits(choice):
                high, chosen = middle, choice
            else:
                low = middle
    return _total(_filled(chosen, table, budget))


def _filled(chosen: dict[str, Option], table: Mapping[str, Sequence[Option]], budget: int) -> dict[str, Option]:
    """Spends what is left of the budget, best gain for the byte first."""
    chosen = dict(chosen)
    left = budget - sum(option.bytes for option in chosen.values())
    while True:
        gains = [
            ((chosen[unit].error - one.error) / max(1, one.bytes - chosen[unit].bytes), unit, one)
            for unit, options in table.items()
            for one in options
            if one.error < chosen[unit].error and one.bytes - chosen[unit].bytes <= left
        ]
        if not gains:
            return chosen
        _, unit, one = max(gains, key=lambda gain: gain[0])
        left -= one.bytes - chosen[unit].bytes
        chosen[unit] = one


def _total(chosen: Mapping[str, Option]) -> Allocation:
    return Allocation(
        chosen, sum(one.bytes for one in chosen.values()), math.fsum(one.error for one in chosen.values())
    )
