"""Gradient flow of one linear neuron on whitened data, solved as a matrix Riccati equation."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from learndyn._checks import (
    as_float,
    is_concrete,
    require_at_least,
    require_finite,
    require_shape,
    require_unbatched,
    require_x64,
)
from learndyn._types import RealLike, Scalar

WHITE = 1e-10
"""Eigenvalues of the covariance, over the largest, may differ by so much from 0 or 1 in whitened
data: the closed form is then wrong by as much per unit of time."""


def linear_neuron(
    a: RealLike,
    w: RealLike,
    beta_star: RealLike,
    ts: RealLike,
    lr_a: RealLike = 1.0,
    lr_w: RealLike = 1.0,
    scale: RealLike = 1.0,
) -> tuple[Float[Array, " times"], Float[Array, "times d"]]:
    """a(t) (times,) and w(t) (times, d) of f(x) = a w·x under gradient flow on whitened data.

    Valid iff XᵀX = c times a projector on a space that contains beta_star. Components of w outside
    that space are constant, so pass P w; `linear_neuron_data` does this for data.

    Equation: with hats a (lr_w/lr_a)^(1/4), w (lr_a/lr_w)^(1/4) and D = â² - |ŵ|², the vector (ŵ;
    â) is e^{FT} (ŵ₀; â₀) / √(1 + ∫₀ᵀ |e^{Fs} (ŵ₀; â₀)|² ds), T = √(lr_a lr_w) c t, F = [[-D/2 I,
    beta_star], [beta_starᵀ, D/2]].

    Error: rounding only, 1e-13 relative for starts between 1e-6 and 1e4; after a passage near the
    saddle (a = 0, w·beta_star = 0) rounding of the start grows as it does in the flow.

    Args:
        a, w: the start, () and (d,).
        beta_star: (d,) the least-squares solution.
        ts: (times,), >= 0.
        lr_a, lr_w: learning rates of a and w, > 0.
        scale: the eigenvalue c of the loss's Hessian in beta = a w, so that XᵀX = c I for a loss
            that sums over samples and XᵀX/n = c I for one that averages.

    Raises:
        ValueError: for batches (use jax.vmap), complex or infinite values, negative times, rates or
            scales that are not > 0: a frozen layer needs another formula, use `gradient_flow`.
            Traced values of that kind give NaN.

    Source:
        Derived here, for every delta = lr_w a² - lr_a |w|²; Kunin et al., Get rich quick (2024),
        have separate forms for delta < 0, = 0 and > 0.

    Example:
        >>> beta_star, ts = jnp.array([1.0, 0.0]), jnp.array([0.0, 20.0])
        >>> a, w = flow.linear_neuron(0.01, jnp.array([0.01, 0.0]), beta_star, ts)
        >>> round(float(a[-1]), 4), w.shape
        (1.0, (2, 2))
    """
    start = _start(a, w, lr_a, lr_w, "linear_neuron")
    beta_star, ts = as_float(beta_star, "beta_star"), _times(ts)
    scale = as_float(scale, "scale")
    require_shape(beta_star, start.w.shape, "beta_star", "that of w")
    require_unbatched([("beta_star", beta_star, 1), ("scale", scale, 0)], "linear_neuron")
    require_finite(beta_star=beta_star)
    require_at_least(scale, 0.0, "scale", "an eigenvalue of the covariance", strict=True)
    bad = (ts < 0) | ~(scale > 0) | ~(start.lr_a > 0) | ~(start.lr_w > 0)
    return solve(start, beta_star, jnp.where(bad, jnp.nan, ts) * scale)


def linear_neuron_data(
    data: Any,
    a: RealLike,
    w: RealLike,
    ts: RealLike,
    lr_a: RealLike = 1.0,
    lr_w: RealLike = 1.0,
) -> tuple[Float[Array, " times"], Float[Array, "times d"]]:
    """As `linear_neuron`, for data whose covariance is c times a projector, which is checked.

    Components of w that no sample sees are constant.

    Args:
        data: `flow.Data` with x (samples, d), y (samples,) or (samples, 1), or `flow.Moments`.
        a, w: the start, () and (d,).
        ts: (times,) increasing times >= 0.
        lr_a, lr_w: learning rates of a and w, > 0.

    Raises:
        ValueError: where the covariance differs from c P by more than 1e-10 c.

    Example:
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> a, w = flow.linear_neuron_data(data, 0.01, [0.01, 0.0], [0.0, 20.0])
        >>> round(float(a[-1] * w[-1, 0]), 4)
        1.0
    """
    start = _start(a, w, lr_a, lr_w, "linear_neuron_data")
    sxx, sxy = second_moments(data)
    require_shape(sxx, start.w.shape * 2, "the covariance of the inputs", "(d, d), with d of w")
    values, vectors = jnp.linalg.eigh(sxx)
    seen = values > 0.5 * values[-1]
    uneven = jnp.abs(values / values[-1] - seen).max()
    _require_white(uneven)
    inside = vectors * seen
    beta_star = inside @ (inside.T @ sxy) / values[-1]
    within = inside @ (inside.T @ start.w)
    ts = jnp.where(uneven <= WHITE, _times(ts), jnp.nan) * values[-1]
    a_t, w_t = solve(start._replace(w=within), beta_star, ts)
    return a_t, w_t + (start.w - within)


class Start(NamedTuple):
    """Both layers at t = 0 and their rates."""

    a: Scalar
    w: Float[Array, " d"]
    lr_a: Scalar
    lr_w: Scalar


def solve(
    start: Start, beta_star: Float[Array, " d"], ts: Float[Array, " times"]
) -> tuple[Float[Array, " times"], Float[Array, "times d"]]:
    """The closed form; ts in units of 1 / c."""
    hats = balanced(start)
    s = safe_norm(beta_star)
    along = beta_star / jnp.where(s == 0, 1.0, s)
    across = hats.w - (hats.w @ along) * along
    flow = Riccati.of(hats, hats.w @ along, across, s)
    a_hat, w_along, w_across = flow(jnp.sqrt(start.lr_a * start.lr_w) * ts)
    w_hat = w_along[:, None] * along + w_across[:, None] * across
    stretch = (start.lr_w / start.lr_a) ** 0.25
    return a_hat / stretch, w_hat * stretch


def balanced(start: Start) -> Start:
    """The hats: layers rescaled so that both learn with rate 1, in time √(lr_a lr_w) t."""
    stretch = (start.lr_w / start.lr_a) ** 0.25
    one = jnp.ones_like(start.lr_a)
    return Start(start.a * stretch, start.w / stretch, one, one)


class Riccati(NamedTuple):
    """e^{FT} (ŵ₀; â₀) and its norm's integral, without cancellation.

    In the plane of beta_star and a the eigenvalues of F are ±kappa/2, kappa² = D² + 4 s²; across it
    -D/2. All exponentials are divided by e^{kappa T/2}.
    a, along: â₀ and the part of ŵ₀ along beta_star. across: squared norm of the rest of ŵ₀.
    d: D. gap: kappa - |D|. top, low: components along the plane's two eigenvectors.
    """

    a: Scalar
    along: Scalar
    across: Scalar
    s: Scalar
    d: Scalar
    kappa: Scalar
    gap: Scalar
    top: Scalar
    low: Scalar

    @staticmethod
    def of(hats: Start, along: Scalar, across: Float[Array, " d"], s: Scalar) -> "Riccati":
        a, n = hats.a, safe_norm(hats.w)
        d = (jnp.abs(a) - n) * (jnp.abs(a) + n)
        kappa = safe_norm(jnp.stack([d, 2 * s]))
        reach = kappa + jnp.abs(d)
        safe = jnp.where(reach == 0, 1.0, reach)
        # Eigenvectors (2 s, D + kappa) for D >= 0 and (|D| + kappa, 2 s) for D < 0
        large, small = safe, 2 * s
        length = jnp.where(reach == 0, 1.0, safe_norm(jnp.stack([large, small])))
        first, second = jnp.where(d >= 0, a, along), jnp.where(d >= 0, along, a)
        return Riccati(
            a=a,
            along=along,
            across=across @ across,
            s=s,
            d=d,
            kappa=kappa,
            gap=4 * s**2 / safe,
            top=(first * large + second * small) / length,
            low=(first * small - second * large) / length,
        )

    def __call__(
        self, t: Float[Array, " times"]
    ) -> tuple[Float[Array, " times"], Float[Array, " times"], Float[Array, " times"]]:
        """â(T), the part of ŵ(T) along beta_star, and the factor of the part across it."""
        fall = jnp.exp(-self.kappa * t)
        q = t * decay_mean(self.kappa * t)
        grows, shrinks = 1 - self.gap * q / 2, fall + self.gap * q / 2
        upstream = self.d >= 0
        a = self.a * jnp.where(upstream, grows, shrinks) + self.along * self.s * q
        along = self.along * jnp.where(upstream, shrinks, grows) + self.a * self.s * q
        rate = jnp.where(upstream, self.kappa + self.d, self.gap)
        across = jnp.exp(-rate * t / 2)
        # ∫ |e^{Fs} Q₀|² ds, component by component
        plane = q * (self.top**2 + self.low**2 * fall)
        slow = jnp.where(upstream, self.kappa, self.gap)
        rest = self.across * t * decay_mean(jnp.abs(self.d) * t) * jnp.exp(-slow * t)
        root = jnp.sqrt(fall + plane + rest)
        return a / root, along / root, across / root


def decay_mean(z: Array) -> Array:
    """(1 - e^{-z}) / z, 1 at z = 0."""
    safe = jnp.where(z == 0, 1.0, z)
    return jnp.where(z == 0, 1.0 - z / 2, -jnp.expm1(-safe) / safe)


def safe_norm(v: Float[Array, " d"]) -> Scalar:
    """The Euclidean norm, whose derivative is 0 at v = 0, and which does not overflow."""
    largest = jnp.abs(v).max()
    zero = largest == 0
    unit = jnp.where(zero, 1.0, v / jnp.where(zero, 1.0, largest))
    return jnp.where(zero, 0.0, largest * jnp.sqrt(jnp.sum(unit**2)))


def second_moments(data: Any) -> tuple[Float[Array, "d d"], Float[Array, " d"]]:
    """Hessian of the loss in beta and XᵀY, in the data's own normalisation, of one output."""
    if hasattr(data, "sxx"):
        sxx, syx = as_float(data.sxx, "sxx"), as_float(data.syx, "syx")
        return sxx, _one_output(syx, syx.shape[:-1])
    x, y = as_float(data.x, "x"), as_float(data.y, "y")
    y = _one_output(y, y.shape[1:])
    weight = 1.0 if getattr(data, "reduce", "mean") == "sum" else 1.0 / x.shape[0]
    return weight * x.T @ x, weight * x.T @ y


def _one_output(array: Array, outputs: tuple[int, ...]) -> Float[Array, " size"]:
    if outputs not in [(), (1,)]:
        raise ValueError(
            f"A linear neuron has one output; the data have outputs of shape {outputs}. Take one "
            "column of y, or use LinearNetwork."
        )
    return array.reshape(-1)


def _start(a: RealLike, w: RealLike, lr_a: RealLike, lr_w: RealLike, function: str) -> Start:
    a, w = as_float(a, "a"), as_float(w, "w")
    lr_a, lr_w = as_float(lr_a, "lr_a"), as_float(lr_w, "lr_w")
    require_x64(f"flow.{function}", a, w)
    require_unbatched([("a", a, 0), ("w", w, 1), ("lr_a", lr_a, 0), ("lr_w", lr_w, 0)], function)
    require_finite(a=a, w=w)
    require_rates(lr_a, lr_w)
    return Start(a, w, lr_a, lr_w)


def require_rates(lr_a: Scalar, lr_w: Scalar) -> None:
    """Closed forms need both layers to learn."""
    why = "both layers learn in the closed form; with a frozen layer use gradient_flow"
    require_at_least(lr_a, 0.0, "lr_a", why, strict=True)
    require_at_least(lr_w, 0.0, "lr_w", why, strict=True)


def _times(ts: RealLike) -> Float[Array, " times"]:
    ts = as_float(ts, "ts")
    require_unbatched([("ts", ts, 1)], "linear_neuron")
    require_at_least(ts, 0.0, "ts", "times since the start")
    return ts


def _require_white(uneven: Scalar) -> None:
    if is_concrete(uneven) and not bool(np.asarray(uneven) <= WHITE):
        raise ValueError(
            "linear_neuron_data needs inputs whose covariance is c times a projector, within "
            f"{WHITE:g} c; here it differs by {float(uneven):.3g} c. Use gradient_flow for the "
            "path and implicit_bias for where it ends."
        )


def is_white(values: Float[Array, " rank"], seen: Bool[Array, " rank"]) -> Bool[Array, ""]:
    """Whether the eigenvalues that are seen agree with the largest."""
    return jnp.where(seen, jnp.abs(values / values.max() - 1), 0.0).max() <= WHITE
