"""Sums over hidden units that are alike: what makes the order parameters few at any size.

An ansatz says which units are alike. A field is a pair (kind, index); kinds that share a group
share their index (a student unit and the teacher unit it has learned). Overlaps depend only on
the two kinds and on whether the indices agree. Sums over all units then fall into classes: the
indices already in use, and one fresh index that stands for all others and is counted.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

Unit = tuple[str, int]
Used = dict[str, tuple[int, ...]]


class Ansatz(NamedTuple):
    """Which units are alike, and the names of their overlaps.

    groups: kind -> group. teachers: the kinds that are teacher units. overlaps: pair of kinds,
    alphabetical -> (overlap at the same index, at another): a coordinate's name, or a number.
    places: coordinate -> the pair of units that represents it.
    """

    groups: dict[str, str]
    teachers: tuple[str, ...]
    overlaps: dict[tuple[str, str], tuple[str | float, str | float]]
    places: dict[str, tuple[Unit, Unit]]

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.groups)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The groups, whose sizes are data."""
        return tuple(dict.fromkeys(self.groups.values()))


class Count(NamedTuple):
    """How many units a class has: 1, or the size of a group less those in use."""

    group: Int[np.ndarray, " terms"]  # number of groups: none, count 1
    used: Int[np.ndarray, " terms"]


class Terms(NamedTuple):
    """The terms of many sums side by side. Term t belongs to coordinate `row[t]`.

    overlaps: (arguments, terms) where each overlap stands in (coordinates, 1, 0).
    kinds: (units, terms) the kinds that are summed over; counts: their multiplicities.
    """

    row: Int[np.ndarray, " terms"]
    overlaps: Int[np.ndarray, "arguments terms"]
    kinds: Int[np.ndarray, "units terms"]
    counts: tuple[Count, ...]


class Plan(NamedTuple):
    """All sums of an ansatz, enumerated once.

    pulls: <c_i a> for each coordinate (i, a), I3(i, a, c); pulls_back: <c_j i> where both are
    students. products: <c_i c_j>, I4(i, j, a, b). errors: <g(a) g(b)>.
    first, second: (coordinates,) the kinds of each coordinate's two units; own: where their
    overlaps ii, ij, jj stand. is_student: whether both are students. needed: (groups,
    coordinates) indices in use.
    """

    pulls: Terms
    pulls_back: Terms
    products: Terms
    errors: Terms
    first: Int[np.ndarray, " coordinates"]
    second: Int[np.ndarray, " coordinates"]
    own: Int[np.ndarray, "3 coordinates"]
    is_student: Bool[np.ndarray, " coordinates"]
    needed: Int[np.ndarray, "groups coordinates"]


def plan(ansatz: Ansatz) -> Plan:
    """Enumerate the sums of `ansatz`."""
    names = list(ansatz.places)
    pulls, pulls_back, products = [], [], []
    for row, (i, j) in enumerate(ansatz.places.values()):
        pulls += [(row, *term) for term in _pull(ansatz, i, j)]
        if _both_students(ansatz, i, j):
            pulls_back += [(row, *term) for term in _pull(ansatz, j, i)]
            products += [(row, *term) for term in _product(ansatz, i, j)]
    errors = [(0, *term) for term in _pairs(ansatz)]
    places = list(ansatz.places.values())
    position = {name: index for index, name in enumerate(names)}
    kind = ansatz.kinds.index
    return Plan(
        pulls=_terms(ansatz, position, pulls),
        pulls_back=_terms(ansatz, position, pulls_back),
        products=_terms(ansatz, position, products),
        errors=_terms(ansatz, position, errors),
        first=np.array([kind(i[0]) for i, _ in places]),
        second=np.array([kind(j[0]) for _, j in places]),
        own=np.array(
            [[_place(ansatz, position, *p) for p in ((i, i), (i, j), (j, j))] for i, j in places]
        ).T,
        is_student=np.array([_both_students(ansatz, i, j) for i, j in places]),
        needed=np.array([[len(_used(ansatz, i, j)[g]) for i, j in places] for g in ansatz.sizes]),
    )


def _both_students(ansatz: Ansatz, i: Unit, j: Unit) -> bool:
    return i[0] not in ansatz.teachers and j[0] not in ansatz.teachers


Term = tuple[list[tuple[Unit, Unit]], list[str], list[tuple[str | None, int]]]


def _pull(ansatz: Ansatz, i: Unit, a: Unit) -> Iterator[Term]:
    for c, count, _ in _classes(ansatz, _used(ansatz, i, a)):
        yield [(i, i), (i, a), (i, c), (a, c), (c, c)], [c[0]], [count]


def _product(ansatz: Ansatz, i: Unit, j: Unit) -> Iterator[Term]:
    for a, count_a, used in _classes(ansatz, _used(ansatz, i, j)):
        for b, count_b, _ in _classes(ansatz, used):
            pairs = [(i, i), (i, j), (j, j), (i, a), (i, b), (j, a), (j, b), (a, a), (a, b), (b, b)]
            yield pairs, [a[0], b[0]], [count_a, count_b]


def _pairs(ansatz: Ansatz) -> Iterator[Term]:
    for a, count_a, used in _classes(ansatz, _used(ansatz)):
        for b, count_b, _ in _classes(ansatz, used):
            yield [(a, a), (a, b), (b, b)], [a[0], b[0]], [count_a, count_b]


def _classes(ansatz: Ansatz, used: Used) -> Iterator[tuple[Unit, tuple[str | None, int], Used]]:
    """Every class of units given the indices in use: (unit, count, indices then in use)."""
    for kind, group in ansatz.groups.items():
        for index in used[group]:
            yield (kind, index), (None, 0), used
        # One index stands for all that are not in use.
        fresh = max(used[group], default=-1) + 1
        yield (kind, fresh), (group, len(used[group])), used | {group: (*used[group], fresh)}


def _used(ansatz: Ansatz, *units: Unit) -> Used:
    used: Used = dict.fromkeys(ansatz.sizes, ())
    for kind, index in units:
        group = ansatz.groups[kind]
        if index not in used[group]:
            used[group] = (*used[group], index)
    return used


def _place(ansatz: Ansatz, position: dict[str, int], a: Unit, b: Unit) -> int:
    """Where the overlap of a and b stands in (coordinates, 1, 0)."""
    # Overlaps are symmetric: each pair of kinds is listed once, alphabetically.
    first, second = sorted((a, b))
    same, other = ansatz.overlaps[first[0], second[0]]
    agree = a[1] == b[1] and ansatz.groups[a[0]] == ansatz.groups[b[0]]
    name = same if agree else other
    return position[name] if isinstance(name, str) else len(position) + (0 if name else 1)


def _terms(ansatz: Ansatz, position: dict[str, int], terms: list[tuple]) -> Terms:
    rows, pairs, kinds, counts = zip(*terms, strict=True)
    groups = {group: index for index, group in enumerate(ansatz.sizes)} | {None: len(ansatz.sizes)}
    return Terms(
        row=np.array(rows),
        overlaps=np.array([[_place(ansatz, position, a, b) for a, b in pair] for pair in pairs]).T,
        kinds=np.array([[ansatz.kinds.index(kind) for kind in each] for each in kinds]).T,
        counts=tuple(
            Count(np.array([groups[c[0]] for c in column]), np.array([c[1] for c in column]))
            for column in zip(*counts, strict=True)
        ),
    )


SPECIALISED = Ansatz(
    groups={"s": "pair", "t": "pair", "x": "superfluous"},
    teachers=("t",),
    overlaps={
        ("s", "s"): ("Q", "C"),
        ("s", "t"): ("R", "S"),
        ("t", "t"): (1.0, 0.0),
        ("s", "x"): ("D", "D"),
        ("t", "x"): ("U", "U"),
        ("x", "x"): ("E", "F"),
    },
    places={
        "Q": (("s", 0), ("s", 0)),
        "C": (("s", 0), ("s", 1)),
        "R": (("s", 0), ("t", 0)),
        "S": (("s", 0), ("t", 1)),
        "D": (("s", 0), ("x", 0)),
        "U": (("x", 0), ("t", 0)),
        "E": (("x", 0), ("x", 0)),
        "F": (("x", 0), ("x", 1)),
    },
)
"""m student units paired with m teacher units, and l superfluous ones; Goldt et al. (2020)."""

SYMMETRIC = Ansatz(
    groups={"s": "student", "t": "teacher"},
    teachers=("t",),
    overlaps={("s", "s"): ("Q", "C"), ("s", "t"): ("R", "R"), ("t", "t"): (1.0, 0.0)},
    places={
        "Q": (("s", 0), ("s", 0)),
        "C": (("s", 0), ("s", 1)),
        "R": (("s", 0), ("t", 0)),
    },
)
"""All students alike, all teachers alike; Saad & Solla (1995), section IV."""
