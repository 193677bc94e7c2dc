"""The symmetric plateau of an erf committee, where units have not yet chosen their teachers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import (
    as_count,
    as_float,
    is_concrete,
    require_at_least,
    require_unbatched,
    require_x64,
)
from learndyn._readable import ReadableResult
from learndyn._types import CountLike, RealLike
from learndyn.asymptotics._states import symmetric_state
from learndyn.asymptotics.reduced._flow import ReducedFlow
from learndyn.asymptotics.reduced._states import SymmetricOverlaps
from learndyn.integrals import erf
from learndyn.problems import Problem
from learndyn.rules import plain
from learndyn.states import Overlaps

_STAGES, _ITERATIONS = 48, 6
"""Learning rates on the way from 0 to lr, and Newton steps at each: close enough that each start is
within reach of Newton's method, up to 1e4 units and to where the point ends."""

_CONVERGED = 1e-11
"""Largest max |dy/dalpha| / lr of a fixed point: ten times what rounding leaves."""

# Gauss and Legendre's rule, moved from (-1, 1) to (0, 1)
_NODES, _WEIGHTS = (0.5 * part for part in np.polynomial.legendre.leggauss(4))
_NODES = _NODES + 0.5
"""Four Gauss-Legendre nodes of a mean over (0, 1): up to `_FAR` their error is rounding."""

_FAR = 0.02
"""Where q - c is larger it is divided by, as nodes would be inaccurate; where it is smaller, the
mean over nodes is taken, as rounding would grow."""


class Plateau(ReadableResult):
    """The symmetric fixed point: Q_ii = q, Q_ii' = c, R_ij = r, and how it is left.

    Attributes:
        q: () each student unit with itself.
        c: () two student units.
        r: () a student with a teacher unit.
        eg: its generalisation error.
        rate: growth of specialisation per unit alpha.
        rate_over_lr: the same per lr, which has a limit as lr -> 0.
        residual: max |dy/dalpha| / lr at the point.
        m: number of units of the student and of the teacher.
        multiplicity: how many such modes, (m-1)**2.
        neutral: how many modes neither grow nor decay as lr -> 0, m(m+1)/2 - 1.

    Example:
        >>> point = asymptotics.plateau(3, 0.5)
        >>> int(point.multiplicity), bool(point.rate > 0), point.state.k
        (4, True, 3)
    """

    q: Float[Array, ""]
    c: Float[Array, ""]
    r: Float[Array, ""]
    eg: Float[Array, ""]
    rate: Float[Array, ""]
    rate_over_lr: Float[Array, ""]
    residual: Float[Array, ""]
    m: int = eqx.field(static=True)

    @property
    def multiplicity(self) -> int:
        return (self.m - 1) ** 2

    @property
    def neutral(self) -> int:
        return self.m * (self.m + 1) // 2 - 1

    @property
    def state(self) -> Overlaps:
        """The full overlaps, k = m."""
        return symmetric_state(self.m, self.m, q=self.q, c=self.c, r=self.r)


def plateau(
    m: CountLike, lr: RealLike = 0.0, *, noise: RealLike = 0.0, batch_size: CountLike = 1
) -> Plateau:
    """The symmetric fixed point of an erf committee, k = m >= 2, v = v_teacher = 1, T = 1.

    Equation: lr = 0 stands for the limit, q = c = 1/(2m-1), r = 1/sqrt(m(2m-1)), eg = (m/pi)(pi/6 -
    m arcsin(1/2m)), rate/lr = (2/pi) m / [sqrt(2m-1) (2m+1)**1.5]. At finite lr there are two; this
    is the one on the path of learning, q > c, found by Newton's method on (q - c, c, r) while lr
    grows from 0. The rate is that of R in the patterns whose rows and columns sum to 0.

    Range: m up to 1e4 at the same cost; 0 <= lr up to where the point ends.

    Error: max |dy/dalpha| / lr below 1e-12; q itself, to which little is sensitive in large
    committees, 1e-15 for m up to 10, then about 2e-17 m**2. jit, vmap and differentiation with
    respect to lr and noise work; where there is no such point, NaN.

    Args:
        m: number of units of the student and of the teacher, at least 2.
        lr: learning rate; 0 stands for the limit of small rates.
        noise: standard deviation of the labels' noise; it moves the point at finite lr only.
        batch_size: samples per step; they move the point at finite lr only.

    Raises:
        ValueError: for m < 2, negative values, arrays of rates (use vmap), concrete lr beyond the
            range.

    Source:
        Saad & Solla, PRE 52, 4225 (1995), section IV; Biehl, Riegler & Wöhler (1996).

    Example:
        >>> point = asymptotics.plateau(3, 0.0)
        >>> round(float(point.q), 6), round(float(point.eg), 6)
        (0.2, 0.020297)
    """
    require_x64("plateau")
    m = as_count(m, "m", "units; one unit has no plateau", 2)
    batch_size = as_count(batch_size, "batch_size", "fresh samples per step")
    lr, noise = as_float(lr, "lr"), as_float(noise, "noise")
    require_at_least(lr, 0.0, "lr", "a learning rate")
    require_at_least(noise, 0.0, "noise", "a standard deviation")
    require_unbatched([("lr", lr, 0), ("noise", noise, 0)], "plateau")
    found = _plateau(jnp.asarray(m, float), lr / batch_size, noise, batch_size)
    point = Plateau(*found, m=m)
    if is_concrete(point.q) and not bool(jnp.isfinite(point.q)):
        raise ValueError(
            f"no symmetric fixed point with q > c was found for m={m} at lr={lr:g}: it ends at "
            "some learning rate. Choose a smaller one."
        )
    return point


@eqx.filter_jit
def _plateau(
    m: Float[Array, ""], lr: Float[Array, ""], noise: Float[Array, ""], batch_size: int
) -> tuple[Array, ...]:
    # As lr / B is all that matters for the point, batches of one at the rate lr / B.
    x, c, r = z = _root(m, lr, noise)
    speed = jnp.max(jnp.abs(_speeds(m, z, lr, noise)))
    # As lr -> 0, x = q - c is 0 to rounding, and its sign means nothing.
    good = (speed < _CONVERGED) & (x > -_CONVERGED * m)
    q = x + c
    rate = _escape(m, q, c, r)
    flow = _flow(m, 1.0, noise)
    eg = flow.generalisation_error(jnp.stack([q, c, r]))
    values = (q, c, r, eg, rate * lr * batch_size, rate, speed)
    return tuple(jnp.where(good, value, jnp.nan) for value in values)


def _flow(m: Array, lr: Array | float, noise: Array) -> ReducedFlow:
    start = SymmetricOverlaps(m, m, Q=1.0, C=0.0, R=0.0)
    problem = eqx.tree_at(lambda p: p.noise, Problem(), noise)
    return ReducedFlow(problem, eqx.tree_at(lambda r: r.lr, plain(1.0), jnp.asarray(lr)), start)


def _speeds(m: Array, z: Array, lr: Array, noise: Array) -> Float[Array, "3"]:
    """d(q, c, r)/dalpha / lr at z = (q - c, c, r): drift + lr times what noise adds.

    The flow is a polynomial in the rate, drift rate + push rate**2: its values at the rates 1
    and -1 give both, so that no small lr is divided by.
    """
    y = jnp.stack([z[0] + z[1], z[1], z[2]])
    flow = jax.vmap(lambda rate: _flow(m, rate, noise)(jnp.zeros(()), y, None))
    ahead, back = flow(jnp.array([1.0, -1.0]))
    return 0.5 * (ahead - back) + lr * 0.5 * (ahead + back)


def _root(m: Array, lr: Array, noise: Array) -> Float[Array, "3"]:
    """(q - c, c, r), by Newton's method at rates that grow from 0 to lr."""

    def equations(z: Array, lr: Array, noise: Array) -> Array:
        # Units that are equal stay so: dq - dc is x = q - c times the mean of its slope between
        # 0 and x. Without the factor x the limit x -> 0 is a root like any other.
        def gap(x: Array) -> Array:
            dq, dc, _ = _speeds(m, jnp.stack([x, z[1], z[2]]), lr, noise)
            return dq - dc

        far = z[0] > _FAR
        points = _NODES * jnp.where(far, 0.0, z[0])
        # Gauss-Legendre mean of the slope, where a quotient would lose digits
        mean_slope = _WEIGHTS @ jax.vmap(lambda x: jax.jvp(gap, (x,), (jnp.ones(()),))[1])(points)
        speeds = _speeds(m, z, lr, noise)
        quotient = (speeds[0] - speeds[1]) / jnp.where(far, z[0], 1.0)
        return speeds.at[0].set(jnp.where(far, quotient, mean_slope))

    def newton(z: Array, lr: Array) -> tuple[Array, None]:
        def step(z: Array, _: None) -> tuple[Array, None]:
            def twice(z: Array) -> tuple[Array, Array]:
                value = equations(z, lr, noise)
                return value, value

            # Newton's step
            slope, value = jax.jacfwd(twice, has_aux=True)(z)
            return z - jnp.linalg.solve(slope, value), None

        return jax.lax.scan(step, z, None, length=_ITERATIONS)[0], None

    def solve(_: object, z: Array) -> Array:
        # Continuation in the rate, in small steps at first: in a large committee q - c bends where
        # lr is of order 1/m**2.
        rates = jax.lax.stop_gradient(lr) * jnp.linspace(0.0, 1.0, _STAGES) ** 4
        return jax.lax.scan(newton, z, rates)[0]

    start = jnp.stack([jnp.zeros(()), 1 / (2 * m - 1), (m * (2 * m - 1)) ** -0.5])
    return jax.lax.custom_root(
        lambda z: equations(z, lr, noise),
        start,
        solve,
        # Implicit function theorem
        lambda linear, rhs: jnp.linalg.solve(jax.jacfwd(linear)(jnp.zeros_like(rhs)), rhs),
    )


def _escape(m: Array, q: Array, c: Array, r: Array) -> Float[Array, ""]:
    """Growth of R per lr in patterns X whose rows and columns sum to 0.

    There sum_{i' != i} X_i'j = -X_ij: the change of <c_i rho_j> is proportional to X_ij.
    """
    one, none = jnp.ones(()), jnp.zeros(())
    # Arguments ii, in, ic, nc, cc of I3(i, n, c) for c: unit i, another, teacher n, another.
    classes = [(q, r, q), (c, r, q), (r, one, one), (r, none, one)]
    slopes = [jax.grad(erf.I3, (1, 2, 3))(q, r, *arguments) for arguments in classes]
    weights = [one, m - 1, -one, -(m - 1)]
    through_in = sum(w * s[0] for w, s in zip(weights, slopes, strict=True))
    through_students = slopes[0][2] - slopes[1][2]
    through_teachers = slopes[2][1] - slopes[3][1]
    return -(through_in + through_students - through_teachers)
