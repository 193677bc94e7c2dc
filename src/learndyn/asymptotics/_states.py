"""States where learning ends, or rests on its way: constructors of the overlaps."""

import jax.numpy as jnp

from learndyn._checks import as_count, as_float, require_at_least, require_shape
from learndyn._types import CountLike, RealLike
from learndyn.states import Overlaps


def specialised_state(
    m: CountLike, l: CountLike = 0, *, v_teacher: RealLike = 1.0, v_superfluous: RealLike = 1.0
) -> Overlaps:
    """Each of m teacher units is learned by one student unit; l further units have no weights.

    k = m + l, Q = diag(1_m, 0_l), R = (1; 0), T = 1.

    Args:
        m: number of teacher units.
        l: number of superfluous student units, k = m + l.
        v_teacher: a number or (m,), which the specialised units share.
        v_superfluous: a number or (l,), which changes nothing but their response.

    Raises:
        ValueError: for m < 1 or l < 0, or second layers of another shape.

    Source:
        Goldt et al. (2020), section 2; the noiseless fixed point of a sigmoidal committee.

    Example:
        >>> state = asymptotics.specialised_state(1, 1)
        >>> state.Q, state.R
        (Array([[1., 0.],
               [0., 0.]], dtype=float64), Array([[1.],
               [0.]], dtype=float64))
    """
    m, l = as_count(m, "m", "teacher units"), as_count(l, "l", "superfluous units", 0)
    v_teacher = _per_unit(v_teacher, m, "v_teacher")
    v_superfluous = _per_unit(v_superfluous, l, "v_superfluous")
    r = jnp.eye(m + l, m)
    return Overlaps(r @ r.T, r, jnp.eye(m), jnp.concatenate([v_teacher, v_superfluous]), v_teacher)


def denoising_state(
    m: CountLike, z: CountLike, v_teacher: RealLike = 1.0, *, shares: RealLike | None = None
) -> Overlaps:
    """z student units have each teacher unit's weights and share its second-layer weight.

    k = z m; unit i has learned teacher unit i // z; T = 1.

    Args:
        m: number of teacher units.
        z: student units for each teacher unit, k = z m.
        v_teacher: a number or (m,).
        shares: (z,) numbers that sum to 1; None: equal ones, v_i = v_teacher / z.

    Raises:
        ValueError: for m < 1 or z < 1, other shapes, or shares that do not sum to 1.

    Source:
        Goldt et al. (2020), section 3, the denoising solution.

    Example:
        >>> state = asymptotics.denoising_state(m=1, z=2)
        >>> state.v, state.R
        (Array([0.5, 0.5], dtype=float64), Array([[1.],
               [1.]], dtype=float64))
    """
    m, z = as_count(m, "m", "teacher units"), as_count(z, "z", "students per teacher unit")
    v_teacher = _per_unit(v_teacher, m, "v_teacher")
    shares = jnp.full(z, 1 / z) if shares is None else as_float(shares, "shares")
    require_shape(shares, (z,), "shares", "one for each of the z units of a teacher unit")
    # 1e-9: decimal fractions that a person typed need not sum to 1 exactly.
    require_at_least(-jnp.abs(jnp.sum(shares) - 1), -1e-9, "-|sum(shares) - 1|", "shares sum to 1")
    r = jnp.repeat(jnp.eye(m), z, axis=0)
    v = (v_teacher[:, None] * shares).ravel()
    return Overlaps(r @ r.T, r, jnp.eye(m), v, v_teacher)


def symmetric_state(
    k: CountLike, m: CountLike, *, q: RealLike, c: RealLike, r: RealLike, t: RealLike = 1.0
) -> Overlaps:
    """All students alike and all teachers alike: the state of the plateau before specialisation.

    Q = q on the diagonal and c off it, R = r everywhere, T = t 1; v = v_teacher = 1.

    Args:
        k: number of student units.
        m: number of teacher units.
        q: each student unit with itself.
        c: two student units.
        r: a student with a teacher unit.
        t: each teacher unit with itself.

    Raises:
        ValueError: for k or m < 1, or overlaps that no weights have.

    Source:
        Saad & Solla, PRE 52, 4225 (1995), section IV.

    Example:
        >>> asymptotics.symmetric_state(2, 1, q=0.5, c=0.1, r=0.2).Q
        Array([[0.5, 0.1],
               [0.1, 0.5]], dtype=float64)
    """
    k, m = as_count(k, "k", "student units"), as_count(m, "m", "teacher units")
    q, c, r, t = (as_float(x, name) for x, name in ((q, "q"), (c, "c"), (r, "r"), (t, "t")))
    return Overlaps(
        c * jnp.ones((k, k)) + (q - c) * jnp.eye(k), r * jnp.ones((k, m)), t * jnp.eye(m)
    )


def _per_unit(value: RealLike, size: int, name: str):
    value = as_float(value, name)
    value = jnp.broadcast_to(value, (size,)) if value.ndim == 0 else value
    require_shape(value, (size,), name, "a number, or one for each unit")
    return value
