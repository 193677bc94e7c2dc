"""Which of many solutions one linear neuron learns, explicitly."""

from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from learndyn._checks import (
    as_float,
    is_concrete,
    require_finite,
    require_shape,
    require_unbatched,
    require_x64,
)
from learndyn._readable import ReadableResult
from learndyn._results import Result
from learndyn._types import RealLike, Scalar
from learndyn.flow.neuron._closed_form import Start, balanced, is_white, require_rates, safe_norm

_WAYS = ("invariant", "loss", "start", "whitened", "flow")
"""How the sign of a(∞) can be known, in the order in which it is tried."""

_SADDLE = 1e-13
"""Starts whose component along the saddle's unstable direction is below this, over the start's
norm, count as on the separatrix: rounding of the start leaves 1e-16."""

_ESCAPED = 0.01
"""The sign of a is final once the loss is below that of beta = 0; it is read when the loss has
fallen below it by this fraction of what can be gained, well above the solver's error."""

_FLOW_RTOL = 1e-10
"""The relative tolerance of the flow that decides the sign: starts nearer to the separatrix
than this, relative, may get the wrong one."""

_MAX_STEPS = 4096
"""Steps of the implicit solver until the saddle is left. Ordinary starts take 50 to 200; a start on
the separatrix waits there for ever."""


class ImplicitBias(ReadableResult):
    """Where the flow of f(x) = a w·x ends; from `implicit_bias`.

    beta = a w, a, w: at infinite time.

    Attributes:
        beta: (d,) the product a w at infinite time.
        a, w: the layers at infinite time.
        sign: that of a.
        delta_row: lr_w a² - lr_a |P w|², P the projector on the row space of x, which the flow
            conserves.
        interpolates: whether x beta = y.
        way: which rule gave the sign, a number; `decided_by` is its name.
        result: INVALID_INPUT for bad traced input, SOLVER_FAILED on the separatrix; values then
            NaN.

    Example:
        >>> end = flow.implicit_bias(x=[[1.0, 0.0]], y=[2.0], a=0.1, w=[0.0, 0.1])
        >>> str(end.decided_by), bool(end.interpolates)
        ('invariant', True)
    """

    beta: Float[Array, "*batch d"]
    a: Float[Array, "*batch"]
    w: Float[Array, "*batch d"]
    sign: Float[Array, "*batch"]
    delta_row: Float[Array, "*batch"]
    interpolates: Bool[Array, "*batch"]
    way: Int[Array, "*batch"]
    result: Int[Array, "*batch"]

    @property
    def decided_by(self) -> str | np.ndarray:
        """ "invariant" (delta_row >= 0), "loss" (below that of beta = 0), "start" (a = 0),
        "whitened" (closed form) or "flow" (integrated); an array of them for a batch.
        """
        names = np.asarray(_WAYS)[np.asarray(self.way)]
        return str(names) if names.ndim == 0 else names


def implicit_bias(
    x: RealLike,
    y: RealLike,
    a: RealLike,
    w: RealLike,
    lr_a: RealLike = 1.0,
    lr_w: RealLike = 1.0,
) -> ImplicitBias:
    """Where gradient flow of f(x) = a w·x on the squared loss ends.

    Equation: with P the projector on the row space of x, N = I - P, b = x⁺y and delta_row = lr_w
    a₀² - lr_a |P w₀|², beta(∞) = b + a(∞) N w₀ and a(∞)² = (delta_row + √(delta_row² + 4 lr_a lr_w
    |b|²)) / (2 lr_w).

    The sign of a(∞) is that of a₀ where delta_row >= 0 or where the loss starts below that of beta
    = 0. Else it depends on the basin of attraction: closed where x is whitened on its row space,
    else integrated until the loss falls below that of beta = 0; a passes 0 at most once. Where y is
    inconsistent, b is least squares. With xᵀy = 0 and delta_row < 0 the part of w in the row space
    stays undetermined (NaN); beta does not.

    Error: rounding; the sign may be wrong for starts within 1e-10 of the separatrix.

    Args:
        x: (samples, d).
        y: (samples,) or (samples, 1).
        a: ().
        w: (d,), the start.
        lr_a, lr_w: learning rates of a and w, > 0.

    Raises:
        ValueError: for a = 0 with w·xᵀy = 0, a critical point; for rates not > 0, complex or
            infinite values, batches (use jax.vmap). Traced values of that kind give NaN and a code.

    Source:
        Derived here; it solves the minimisation of Theorem 3.1 in Kunin et al., Get rich quick
        (2024), and also holds where a changes sign, where the theorem as printed does not.

    Example:
        >>> end = flow.implicit_bias(x=[[1.0, 0.0]], y=[2.0], a=0.1, w=[0.0, 0.1])
        >>> np.round(end.beta, 4)
        Array([2.    , 0.1416], dtype=float64)
    """
    x, y, start = _inputs(x, y, a, w, lr_a, lr_w)
    parts = _row_space(x, y, start)
    critical = (start.a == 0) & (parts.start.w @ parts.pull == 0)
    _refuse(critical)
    way, sign = _sign(parts)
    return _end(x, y, start, parts, way, sign, critical)


class _RowSpace(NamedTuple):
    """The problem in the basis of right singular vectors of x; unseen directions are zero.

    values: singular values. pull: xᵀy. best: x⁺y. start: its w is P w₀. null: N w₀ in the inputs.
    """

    values: Float[Array, " r"]
    seen: Bool[Array, " r"]
    right: Float[Array, "r d"]
    pull: Float[Array, " r"]
    best: Float[Array, " r"]
    start: Start
    null: Float[Array, " d"]
    delta: Scalar
    loss: Scalar  # 1/2 |x beta - y|² - 1/2 |y|² at the start


def _row_space(x: Array, y: Array, start: Start) -> _RowSpace:
    left, values, right = jnp.linalg.svd(x, full_matrices=False)
    seen = values > max(x.shape) * jnp.finfo(x.dtype).eps * values[0]
    values = jnp.where(seen, values, 0.0)
    shares = left.T @ y
    best = jnp.where(seen, shares / jnp.where(seen, values, 1.0), 0.0)
    w = jnp.where(seen, right @ start.w, 0.0)
    inside = start._replace(w=w)
    norm_a, norm_w = jnp.sqrt(start.lr_w) * jnp.abs(start.a), jnp.sqrt(start.lr_a) * safe_norm(w)
    return _RowSpace(
        values=values,
        seen=seen,
        right=right,
        pull=values * shares,
        best=best,
        start=inside,
        null=start.w - right.T @ w,
        delta=(norm_a - norm_w) * (norm_a + norm_w),
        loss=_loss_gain(values, values * shares, start.a, w),
    )


def _loss_gain(values: Array, pull: Array, a: Scalar, w: Array) -> Scalar:
    """The loss minus that of beta = 0."""
    return jnp.sum((a * values * w) ** 2) / 2 - a * (pull @ w)


def _sign(parts: _RowSpace) -> tuple[Int[Array, ""], Scalar]:
    """Which rule decides, and the sign of a(∞), 0 on the separatrix."""
    a, nothing = parts.start.a, jnp.all(parts.pull == 0)
    across = _unstable_component(parts)
    whitened = is_white(parts.values**2, parts.seen)
    # A balanced start may be on the separatrix of the saddle at the origin.
    at_origin = whitened & (parts.delta == 0) & (across == 0) & ~nothing
    rules: list[Array] = [
        (a != 0) & ((parts.delta >= 0) | nothing) & ~at_origin,
        (a != 0) & (parts.loss <= 0) & ~at_origin,
        (a == 0),
        whitened,
    ]
    way = jnp.select(rules, list(jnp.arange(4)), 4)
    signs: list[Array] = [
        jnp.sign(a),
        jnp.sign(a),
        jnp.sign(parts.start.w @ parts.pull),
        jnp.sign(across),
    ]
    open_question = way == 4
    if is_concrete(open_question) and not bool(np.asarray(open_question)):
        return way, jnp.select(rules, signs)
    return way, jnp.select(rules, signs, _sign_by_flow(parts, open_question))


def _unstable_component(parts: _RowSpace) -> Scalar:
    """ŵ·b + â (D + kappa)/2, whose sign a(∞) has if x is whitened; 0 where rounding decides."""
    hats, s = balanced(parts.start), safe_norm(parts.best)
    n = safe_norm(hats.w)
    d = (jnp.abs(hats.a) - n) * (jnp.abs(hats.a) + n)
    kappa = safe_norm(jnp.stack([d, 2 * s]))
    reach = kappa + jnp.abs(d)
    half = jnp.where(d >= 0, reach / 2, 2 * s**2 / jnp.where(reach == 0, 1.0, reach))
    pulled, pushed = hats.w @ parts.best, hats.a * half
    size = n * s + jnp.abs(pushed)
    value = pulled + pushed
    return jnp.where(jnp.abs(value) <= _SADDLE * size, 0.0, value)


@eqx.filter_jit
def _sign_by_flow(parts: _RowSpace, wanted: Bool[Array, ""]) -> Scalar:
    """The sign of a once the loss is below that of beta = 0; 0 where that is not reached.

    Integrates (a, P w), 1 + rank numbers. wanted: elsewhere the answer is not used.
    """
    parts = jax.lax.stop_gradient(parts)
    # Units in which the largest singular value and |x⁺y| are 1
    size = jnp.where(safe_norm(parts.best) == 0, 1.0, safe_norm(parts.best))
    hats = balanced(parts.start)
    values = parts.values / parts.values[0]
    pull = parts.pull / (parts.values[0] ** 2 * size)
    goal = -_ESCAPED * jnp.sum(pull * parts.best) / size / 2
    start = (hats.a / jnp.sqrt(size), hats.w / jnp.sqrt(size))

    def field(t, state, _):
        a, w = state
        error = a * values**2 * w - pull
        return -(w @ error), -a * error

    def below(t, state, *_, **__):
        return ~wanted | (_loss_gain(values, pull, *state) <= goal)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Kvaerno5(),
        t0=0.0,
        t1=jnp.inf,
        dt0=None,
        y0=start,
        stepsize_controller=diffrax.PIDController(rtol=_FLOW_RTOL, atol=_FLOW_RTOL * 1e-2),
        event=diffrax.Event(below),
        max_steps=_MAX_STEPS,
        throw=False,
        adjoint=diffrax.ForwardMode(),
    )
    a, w = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
    return jnp.where(_loss_gain(values, pull, a, w) <= goal, jnp.sign(a), 0.0)


def _end(
    x: Array,
    y: Array,
    start: Start,
    parts: _RowSpace,
    way: Int[Array, ""],
    sign: Scalar,
    critical: Bool[Array, ""],
) -> ImplicitBias:
    size = jnp.sqrt(_squared_end(parts))
    a = sign * size
    best = parts.right.T @ parts.best
    beta = best + a * parts.null
    gone = jnp.where(parts.delta < 0, jnp.nan, 0.0)
    w = jnp.where(size == 0, gone, best / jnp.where(size == 0, 1.0, a)) + parts.null
    invalid = critical | ~(start.lr_a > 0) | ~(start.lr_w > 0) | ~jnp.isfinite(size)
    result = jnp.where(invalid, Result.INVALID_INPUT, Result.SUCCESS)
    result = jnp.where((sign == 0) & ~invalid, Result.SOLVER_FAILED, result)
    hide = lambda value: jnp.where(result == Result.SUCCESS, value, jnp.nan)
    error = safe_norm(x @ best - y)
    return ImplicitBias(
        beta=hide(beta),
        a=hide(a),
        w=hide(w),
        sign=hide(sign),
        delta_row=parts.delta,
        # What rounding leaves of labels that a linear map fits exactly is smaller.
        interpolates=error <= 1e-10 * safe_norm(y),
        way=way,
        result=result,
    )


def _squared_end(parts: _RowSpace) -> Scalar:
    """a(∞)², without cancellation at either sign of delta_row."""
    lr_a, lr_w, delta = parts.start.lr_a, parts.start.lr_w, parts.delta
    length = safe_norm(parts.best)
    reach = safe_norm(jnp.stack([delta, 2 * jnp.sqrt(lr_a * lr_w) * length])) + jnp.abs(delta)
    small = 2 * lr_a * length**2 / jnp.where(reach == 0, 1.0, reach)
    return jnp.where(delta >= 0, reach / (2 * lr_w), small)


def _inputs(
    x: RealLike, y: RealLike, a: RealLike, w: RealLike, lr_a: RealLike, lr_w: RealLike
) -> tuple[Float[Array, "samples d"], Float[Array, " samples"], Start]:
    x, y, a, w = (as_float(v, name) for v, name in ((x, "x"), (y, "y"), (a, "a"), (w, "w")))
    lr_a, lr_w = as_float(lr_a, "lr_a"), as_float(lr_w, "lr_w")
    require_x64("flow.implicit_bias", x, y, a, w)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    named = [("x", x, 2), ("y", y, 1), ("a", a, 0), ("w", w, 1), ("lr_a", lr_a, 0)]
    require_unbatched([*named, ("lr_w", lr_w, 0)], "implicit_bias")
    if 0 in x.shape:
        raise ValueError(f"x must have samples and inputs, at least one; got shape {x.shape}.")
    require_shape(y, x.shape[:1], "y", "one label per row of x")
    require_shape(w, x.shape[1:], "w", "one weight per column of x")
    require_finite(x=x, y=y, a=a, w=w)
    require_rates(lr_a, lr_w)
    return x, y, Start(a, w, lr_a, lr_w)


def _refuse(critical: Bool[Array, ""]) -> None:
    if is_concrete(critical) and bool(np.asarray(critical)):
        raise ValueError(
            "The start must not be a critical point; got a = 0 with w·xᵀy = 0, where gradient flow "
            "stays. Perturb a or w."
        )
