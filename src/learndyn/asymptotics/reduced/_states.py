"""Overlaps of committees whose units are alike: a handful of numbers at any size."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float
from learndyn._readable import ReadableResult
from learndyn._types import RealLike
from learndyn.asymptotics.closed_forms._erf_committee import as_units
from learndyn.asymptotics.reduced import _ansatz
from learndyn.asymptotics.reduced._ansatz import Ansatz
from learndyn.states import Overlaps


class SpecialisedOverlaps(ReadableResult):
    """Overlaps of a committee with k = m + l units, m of them paired with the teacher's; T = 1.

    Overlaps that a size leaves without meaning (C and S at m = 1) stay as given.

    Args:
        m, l: the sizes, which are data.
        Q: a specialised unit with itself.
        C: two specialised units.
        R: a specialised unit with its teacher.
        S: a specialised unit with another teacher.
        D: a superfluous with a specialised unit.
        U: a superfluous with a teacher unit.
        E: a superfluous unit with itself.
        F: two superfluous units.
        v, v_superfluous, v_teacher: fixed second layers.

    Raises:
        ValueError: for sizes that are no integers, m < 1 or l < 0.

    Example:
        >>> given = {"Q": 1.0, "C": 0.0, "R": 1.0, "S": 0.0, "D": 0.0, "U": 0.0, "E": 0.1, "F": 0.0}
        >>> asymptotics.SpecialisedOverlaps(2, 1, **given).expanded().Q
        Array([[1. , 0. , 0. ],
               [0. , 1. , 0. ],
               [0. , 0. , 0.1]], dtype=float64)
    """

    Q: Float[Array, "*batch"]
    C: Float[Array, "*batch"]
    R: Float[Array, "*batch"]
    S: Float[Array, "*batch"]
    D: Float[Array, "*batch"]
    U: Float[Array, "*batch"]
    E: Float[Array, "*batch"]
    F: Float[Array, "*batch"]
    m: Float[Array, "*batch"]
    l: Float[Array, "*batch"]
    v: Float[Array, "*batch"]
    v_superfluous: Float[Array, "*batch"]
    v_teacher: Float[Array, "*batch"]
    ansatz: ClassVar[Ansatz] = _ansatz.SPECIALISED

    def __init__(
        self,
        m: RealLike,
        l: RealLike = 0,
        *,
        Q: RealLike = 1.0,
        C: RealLike = 0.0,
        R: RealLike = 1.0,
        S: RealLike = 0.0,
        D: RealLike = 0.0,
        U: RealLike = 0.0,
        E: RealLike = 0.0,
        F: RealLike = 0.0,
        v: RealLike = 1.0,
        v_superfluous: RealLike = 1.0,
        v_teacher: RealLike = 1.0,
    ):
        named = {"Q": Q, "C": C, "R": R, "S": S, "D": D, "U": U, "E": E, "F": F, "m": m, "l": l}
        named |= {"v": v, "v_superfluous": v_superfluous, "v_teacher": v_teacher}
        for name, value in named.items():
            setattr(self, name, as_float(value, name))
        self.m, self.l = as_units(m, "m"), as_units(l, "l", 0)

    @property
    def sizes(self) -> Float[Array, "2"]:
        return jnp.stack([self.m, self.l])

    @property
    def layers(self) -> Float[Array, "3"]:
        """Second-layer weights of the kinds of units, with the teacher's sign turned."""
        return jnp.stack([self.v, -self.v_teacher, self.v_superfluous])

    def expanded(self) -> Overlaps:
        """The same state in full: k by k overlaps. Not under jit: sizes set shapes."""
        m, l = int(self.m), int(self.l)
        q = np.full((m + l, m + l), float(self.D))
        q[:m, :m], q[m:, m:] = self.C, self.F
        np.fill_diagonal(q, [self.Q] * m + [self.E] * l)
        r = np.full((m + l, m), float(self.U))
        r[:m] = self.S
        np.fill_diagonal(r, self.R)
        v = np.array([self.v] * m + [self.v_superfluous] * l)
        return Overlaps(q, r, np.eye(m), v, float(self.v_teacher))

    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of the covariance of all fields. Concrete values only."""
        Q, C, R, S, D, U, E, F, m, l = (
            float(getattr(self, name)) for name in (*self.ansatz.places, "m", "l")
        )
        # What differs among pairs, what differs among superfluous units, and the sums of all.
        blocks = [[[Q - C, R - S], [R - S, 1.0]]] if m > 1 else []
        blocks += [[[E - F]]] if l > 1 else []
        cross, own, mixed = (m * l) ** 0.5, E + (l - 1) * F, R + (m - 1) * S
        whole = [[Q + (m - 1) * C, mixed, cross * D], [mixed, 1.0, cross * U]]
        whole.append([cross * D, cross * U, own if l else 1.0])
        return min(np.linalg.eigvalsh(np.array(block))[0] for block in [*blocks, whole])


class SymmetricOverlaps(ReadableResult):
    """Overlaps of k students that are alike with m teachers that are alike; T = 1.

    Args:
        k, m: the sizes, which are data.
        Q: a student with itself.
        C: two students.
        R: a student with any teacher.
        v, v_teacher: fixed second-layer weights, the same for all units of a layer.

    Raises:
        ValueError: for sizes that are no integers, or < 1.

    Example:
        >>> state = asymptotics.SymmetricOverlaps(2, 2, Q=0.5, C=0.1, R=0.2)
        >>> state.expanded().Q
        Array([[0.5, 0.1],
               [0.1, 0.5]], dtype=float64)
    """

    Q: Float[Array, "*batch"]
    C: Float[Array, "*batch"]
    R: Float[Array, "*batch"]
    k: Float[Array, "*batch"]
    m: Float[Array, "*batch"]
    v: Float[Array, "*batch"]
    v_teacher: Float[Array, "*batch"]
    ansatz: ClassVar[Ansatz] = _ansatz.SYMMETRIC

    def __init__(
        self,
        k: RealLike,
        m: RealLike,
        *,
        Q: RealLike,
        C: RealLike,
        R: RealLike,
        v: RealLike = 1.0,
        v_teacher: RealLike = 1.0,
    ):
        named = {"Q": Q, "C": C, "R": R, "k": k, "m": m, "v": v, "v_teacher": v_teacher}
        for name, value in named.items():
            setattr(self, name, as_float(value, name))
        self.k, self.m = as_units(k, "k"), as_units(m, "m")

    @property
    def sizes(self) -> Float[Array, "2"]:
        return jnp.stack([self.k, self.m])

    @property
    def layers(self) -> Float[Array, "2"]:
        """Second-layer weights of the kinds of units, with the teacher's sign turned."""
        return jnp.stack([self.v, -self.v_teacher])

    def expanded(self) -> Overlaps:
        """The same state in full: k by k overlaps. Not under jit: sizes set shapes."""
        k, m = int(self.k), int(self.m)
        q = np.full((k, k), float(self.C))
        np.fill_diagonal(q, self.Q)
        return Overlaps(
            q, np.full((k, m), float(self.R)), np.eye(m), float(self.v), float(self.v_teacher)
        )

    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of the covariance of all fields. Concrete values only."""
        Q, C, R, k, m = (float(getattr(self, name)) for name in "QCRkm")
        cross = (k * m) ** 0.5 * R
        # The sums of all students and all teachers; differences have Q - C, and 1.
        whole = np.linalg.eigvalsh(np.array([[Q + (k - 1) * C, cross], [cross, 1.0]]))[0]
        return min(whole, 1.0, Q - C if k > 1 else 1.0)
