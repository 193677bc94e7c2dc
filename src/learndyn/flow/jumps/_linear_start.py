"""Two-layer linear networks from a given start: modes, and the time at which each one jumps."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learndyn._checks import as_float, require_at_least, require_finite
from learndyn._types import RealLike
from learndyn.flow.jumps._data import host, moments
from learndyn.flow.jumps._linear import RANK, TIED, Task, task_of

_COMMUTING = 1e-8
"""Modes count as separate if the covariance couples them by less than this, over its norm, and as
equal if its eigenvalues agree to this: moments of printed digits agree no better."""


class Rates(NamedTuple):
    """Rates of two layers as one rate of a network whose layers have been rescaled.

    stretch = (lr_w/lr_a)^(1/4): the second layer times it, and the first divided by it, learn with
    equal rates in the time √(lr_a lr_w) t.
    """

    stretch: float
    clock: float

    @staticmethod
    def of(lr: Any) -> "Rates":
        """lr: a number, or (rate of w1, rate of w2)."""
        both = host(lr, "lr", "linear_jump_times")
        if both.shape not in [(), (2,)] or not (both > 0).all():
            raise ValueError(
                "lr must be a rate > 0, or two of them, for w1 and w2 (a frozen layer is not "
                f"covered by this theory); got {lr!r}."
            )
        lr_w, lr_a = np.broadcast_to(both, 2)
        return Rates(float((lr_w / lr_a) ** 0.25), float(np.sqrt(lr_w * lr_a)))


class LinearTimes(NamedTuple):
    """When the modes of a linear network jump, in units of the flow's time.

    For unequal rates the law is that times (√(lr_w/lr_a) + √(lr_a/lr_w))/2.

    Attributes:
        times: (K,) at which modes reach half of their final value.
        squares: (K,) the squared shares R_kk² of the start in the mode, once those of earlier modes
            are taken out.
        freedom: (K,) for layers with N(0, alpha²) entries and equal rates, squares / alpha² has
            this many degrees of freedom of a chi-square law, independently of the others.

    Example:
        >>> w1, w2 = 1e-4 * np.eye(2), 1e-4 * np.eye(2)
        >>> found = flow.linear_jump_times(w1, w2, np.eye(2), np.diag([2.0, 1.0]))
        >>> found.freedom
        array([2, 1])
    """

    times: Float[np.ndarray, " jumps"]
    squares: Float[np.ndarray, " jumps"]
    freedom: Int[np.ndarray, " jumps"]


def linear_jump_times(
    w1: RealLike, w2: RealLike, sxx: Any, syx: RealLike = None, lr: Any = 1.0
) -> LinearTimes:
    """When the modes of f = w2 w1 x jump, from the given small start.

    Equation: t_k = log(2 s_k / (lam_k R_kk²)) / (2 s_k √(lr_1 lr_2)), where layers are rescaled to
    equal rates, C = (Vᵀ w1ᵀ + Uᵀ w2)/√2 (modes, hidden) and Cᵀ = Q R. Of modes with equal s and
    lam, R_kk² are the squared singular values of their block of R.

    Error: the start's scale to the power 2 (1 - s_{k+1}/s_k). min(hidden, rank) modes jump.

    Args:
        w1: (hidden, d), w2: (c, hidden).
        w2: (c, hidden) the second layer at the start.
        sxx, syx: as for `linear_jumps`, commuting: S_yx = U s Vᵀ and S_xx = V lam Vᵀ.
        lr: a rate, or those of w1 and w2.

    Raises:
        ValueError: where the moments do not commute (`linear_jumps` takes such), for shapes, rates
            not > 0, and the input that `linear_jumps` refuses.

    Source:
        Derived here; Saxe et al. (2014) for aligned starts.

    Example:
        >>> w1, w2 = 1e-4 * np.eye(2), 1e-4 * np.eye(2)
        >>> found = flow.linear_jump_times(w1, w2, np.eye(2), np.diag([2.0, 1.0]))
        >>> np.round(found.times, 2)
        array([4.78, 9.21])
    """
    modes = _modes(task_of(moments(sxx, syx, "linear_jump_times")))
    rates = Rates.of(lr)
    shares = _shares(w1, w2, modes, rates)
    hidden = shares.shape[1]
    r = np.linalg.qr(shares.T).R
    count = min(hidden, len(modes.s))
    squares = np.array([_square(r, modes, k) for k in range(count)])
    s, lam = modes.s[:count], modes.lam[:count]
    times = np.log(2 * s / (lam * squares)) / (2 * s * rates.clock)
    return LinearTimes(times, squares, hidden - np.arange(count))


def rotated_start(
    w1: RealLike, w2: RealLike, sxx: Any, syx: RealLike = None
) -> tuple[Float[np.ndarray, "hidden d"], Float[np.ndarray, "c hidden"]]:
    """The same network with hidden units rotated: unit k has no share of the modes before k.

    Shapes and moments as for `linear_jump_times`. The product w2 w1 and its flow are the same.
    `alternating` needs this start, because otherwise all units align with the first mode.

    Args:
        w1, w2: (hidden, d) and (c, hidden), the layers.
        sxx, syx: moments, as for `linear_jumps`.

    Example:
        >>> w1, w2 = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
        >>> first, second = flow.rotated_start(w1, w2, np.eye(2), np.diag([2.0, 1.0]))
        >>> second @ first  # as w2 @ w1
        array([[1., 0.],
               [0., 1.]])
    """
    modes = _modes(task_of(moments(sxx, syx, "rotated_start")))
    shares = _shares(w1, w2, modes, Rates(1.0, 1.0))
    turn = np.linalg.qr(shares.T, mode="complete")[0]
    return turn.T @ host(w1, "w1", "rotated_start"), host(w2, "w2", "rotated_start") @ turn


def linear_modes(
    start: RealLike, s: RealLike, ts: RealLike, lam: RealLike = 1.0, lr: RealLike = 1.0
) -> Float[Array, "times modes"]:
    """Modes u_k(t) (times, modes) of an aligned, balanced two-layer linear network.

    Equation: u_k(t) = (s/lam) / (1 + (s/(lam u_k(0)) - 1) e^{-2 s lr t}).

    Error: rounding.

    Args:
        start: (modes,) u_k(0) > 0, of w2 w1 = U diag(u) Vᵀ.
        s, lam: singular values of S_yx = U s Vᵀ and eigenvalues of S_xx = V lam Vᵀ, both > 0.
        ts: (times,) >= 0.
        lr: of both layers.

    Raises:
        ValueError: for values that are not > 0 (NaN where traced).

    Source:
        Saxe, McClelland and Ganguli (2014), eq. 9, here with a covariance that commutes.

    Example:
        >>> modes = flow.linear_modes(jnp.array([1e-4]), jnp.array([2.0]), jnp.array([0.0, 20.0]))
        >>> np.round(modes[:, 0], 4)
        Array([1.e-04, 2.e+00], dtype=float64)
    """
    named = {"start": start, "s": s, "lam": lam, "lr": lr}
    u, s, lam, lr = (as_float(value, name) for name, value in named.items())
    ts = as_float(ts, "ts")
    require_finite(ts=ts)
    bad = jnp.zeros((), bool)
    for name, value in zip(named, (u, s, lam, lr), strict=True):
        require_at_least(value, 0.0, name, "a mode that grows", strict=True)
        bad |= jnp.any(~(value > 0))
    # The equation times u_k(0) / u_k(0), so that small starts lose no digits
    fall = jnp.exp(-2 * s * lr * ts[:, None])
    grown = u * s / (lam * u * -jnp.expm1(-2 * s * lr * ts[:, None]) + s * fall)
    return jnp.where(bad, jnp.nan, grown)


class _Modes(NamedTuple):
    """S_yx = left diag(s) rightᵀ, s falling, with right eigenvectors of S_xx, eigenvalues lam."""

    left: Float[np.ndarray, "c modes"]
    s: Float[np.ndarray, " modes"]
    right: Float[np.ndarray, "d modes"]
    lam: Float[np.ndarray, " modes"]


def _modes(task: Task) -> _Modes:
    left, s, right = np.linalg.svd(task.syx, full_matrices=False)
    # Equal singular values: the basis in which the covariance is diagonal as well
    for group in _groups(s):
        inner = right[group] @ task.sxx @ right[group].T
        turn = np.linalg.eigh(inner)[1].T
        left[:, group], right[group] = left[:, group] @ turn.T, turn @ right[group]
    seen = s > RANK * s[0]
    left, s, right = left[:, seen], s[seen], right[seen].T
    image = task.sxx @ right
    lam = np.sum(right * image, axis=0)
    coupling = np.abs(image - right * lam).max() if len(s) else 0.0
    if coupling > _COMMUTING * np.abs(task.sxx).max():
        raise ValueError(
            "Jump times from a start need moments that commute: singular vectors of syx must be "
            f"eigenvectors of sxx. They are coupled by {coupling:.3g}; linear_jumps gives "
            "times to leading order."
        )
    return _Modes(left, s, right, lam)


def _groups(s: Float[np.ndarray, " modes"]) -> list[Int[np.ndarray, " group"]]:
    starts = np.flatnonzero(np.append(True, s[1:] < (1 - TIED) * s[:-1]))
    return np.split(np.arange(len(s)), starts[1:])


def _shares(
    w1: RealLike, w2: RealLike, modes: _Modes, rates: Rates
) -> Float[np.ndarray, "modes h"]:
    w1, w2 = host(w1, "w1", "linear networks"), host(w2, "w2", "linear networks")
    d, c = len(modes.right), len(modes.left)
    if w1.ndim != 2 or w2.ndim != 2 or w1.shape != (w2.shape[1], d) or w2.shape[0] != c:
        raise ValueError(
            f"w1 must have shape (hidden, {d}) and w2 ({c}, hidden), as sxx and syx say; got "
            f"{w1.shape} and {w2.shape}."
        )
    return (modes.right.T @ w1.T / rates.stretch + modes.left.T @ w2 * rates.stretch) / np.sqrt(2)


def _square(r: Float[np.ndarray, "k modes"], modes: _Modes, k: int) -> float:
    """R_kk², or the eigenvalue that stands for it among modes that are tied."""
    same_s = np.abs(modes.s / modes.s[k] - 1) <= TIED
    same_lam = np.abs(modes.lam / modes.lam[k] - 1) <= _COMMUTING
    block = np.flatnonzero(same_s & same_lam)
    block = block[block < len(r)]
    return float(np.linalg.svd(r[np.ix_(block, block)], compute_uv=False)[k - block[0]] ** 2)
