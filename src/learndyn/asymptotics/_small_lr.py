"""Asymptotic errors at small learning rate: closed forms for every zero-error state."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._activations import Erf, Linear, ReLU, derivative
from learndyn._checks import as_float, require_at_least, require_unbatched
from learndyn._problem import Problem
from learndyn._rules import SGD
from learndyn._states import Overlaps
from learndyn._types import RealLike

_ORDER = 96


def eg_zero_error_small_lr(problem: Problem, rule: SGD, state: Overlaps) -> Float[Array, ""]:
    """Final eg near a state whose error is zero without noise, at small learning rate.

    Equation: lr noise**2 / 4 sum_k v_k**2 <g'(lambda_k)**2>, lr the effective one,
        lr / (B (1 - beta)). erf: lr noise**2 / (2 pi) sum_k v_k**2 / sqrt(1 + 2 Q_kk), which is
        Eq. (11) at the specialised and Eq. (15) at the denoising state of Goldt et al. (2020);
        relu: lr noise**2 / 8 sum_k v_k**2; linear: lr noise**2 / 4 sum_k v_k**2. Other
        activations and biases: <g'**2> by 96 Gauss-Hermite nodes.
    state: its Q and v; the formula holds at every zero-error state, also those a random start
        reaches. A trained second layer or biases change nothing at this order.
    Error: O(lr**2), and O(noise**4) at fixed lr (O(noise**3) for relu).
    Raises: ValueError for a schedule or a batch of states.
    """
    if callable(rule.lr):
        raise ValueError("eg_zero_error_small_lr needs a number for lr; got a schedule.")
    require_unbatched([("Q", state.Q, 2)], "eg_zero_error_small_lr")
    rate = rule.effective_rates(0.0).w / rule.batch_size
    steepness = _squared_slope(problem.student, jnp.diagonal(state.Q), state.b)
    return rate * problem.noise**2 / 4 * jnp.sum(state.v**2 * steepness)


def eg_specialised_small_lr(
    m: RealLike, l: RealLike, lr: RealLike, noise: RealLike = 1.0
) -> Float[Array, "*shape"]:
    """noise**2 lr (l + m / sqrt(3)) / (2 pi); Eq. (11) of Goldt et al. (2020), erf, k = m + l.

    Error: O(lr**2); at lr = 0.05, m = 2, l = 0 it is 2 % low. Raises: ValueError for m < 1,
    l < 0 or negative rates.
    """
    m, l, lr, noise = _checked(("m", m, 1.0), ("l", l, 0.0), ("lr", lr, 0.0), ("noise", noise, 0.0))
    return noise**2 * lr * (l + m / 3**0.5) / (2 * jnp.pi)


def eg_denoising_small_lr(
    m: RealLike, z: RealLike, v_teacher: RealLike, lr: RealLike, noise: RealLike = 1.0
) -> Float[Array, "*shape"]:
    """noise**2 lr v_teacher**2 m / (2 sqrt(3) pi z), erf, both layers trained, k = z m.

    Eq. (15) of Goldt et al. (2020) for m = 1, k = z. Error: O(lr**2 noise**2).
    Raises: ValueError for m or z < 1 or negative rates.
    """
    m, z, lr, noise = _checked(("m", m, 1.0), ("z", z, 1.0), ("lr", lr, 0.0), ("noise", noise, 0.0))
    v_teacher = as_float(v_teacher, "v_teacher")
    return noise**2 * lr * v_teacher**2 * m / (2 * 3**0.5 * jnp.pi * z)


def eg_normalised_small_lr(
    k: RealLike, lr: RealLike, noise: RealLike = 1.0, *, activation: str = "erf"
) -> Float[Array, "*shape"]:
    """Final eg of a committee that averages, v_k = 1/k, only the first layer trained.

    Equation: <g'**2> lr noise**2 / (4 k): erf (k = z m students of a teacher with v = 1/m, unit
        norms) lr noise**2 / (2 sqrt(3) pi k); relu lr noise**2 / (8 k); linear
        lr noise**2 / (4 k), exactly `eg_linear(lr, noise, v=ones(k) / k)`.
    activation: "erf", "relu" or "linear". Error: O(lr**2). Raises: ValueError for others.
    Source: Goldt et al. (2020), section 3: v = 1/k lowers the effective learning rate.
    """
    steepness = {"erf": 2 / (jnp.pi * 3**0.5), "relu": 0.5, "linear": 1.0}
    if activation not in steepness:
        raise ValueError(f'activation must be "erf", "relu" or "linear"; got {activation!r}.')
    k, lr, noise = _checked(("k", k, 1.0), ("lr", lr, 0.0), ("noise", noise, 0.0))
    return steepness[activation] * lr * noise**2 / (4 * k)


def _squared_slope(
    g, norms: Float[Array, " k"], b: Float[Array, " k"] | None
) -> Float[Array, " k"]:
    """<g'(lambda_k + b_k)**2> with lambda_k ~ N(0, norms_k)."""
    if b is None and isinstance(g, Erf):
        return 2 / (jnp.pi * jnp.sqrt(1 + 2 * norms))
    if b is None and isinstance(g, Linear | ReLU):
        return jnp.full_like(norms, 1.0 if isinstance(g, Linear) else 0.5)
    shift = jnp.zeros_like(norms) if b is None else b
    if isinstance(g, ReLU):
        return jax.scipy.special.ndtr(shift / jnp.sqrt(norms))
    x, weight = np.polynomial.hermite_e.hermegauss(_ORDER)
    fields = shift[:, None] + jnp.sqrt(norms)[:, None] * x
    return derivative(g, fields) ** 2 @ (weight / weight.sum())


def _checked(*named: tuple[str, RealLike, float]) -> list[Array]:
    arrays = []
    for name, value, lower in named:
        array = as_float(value, name)
        require_at_least(array, lower, name, "units, rates and noise")
        arrays.append(array)
    return arrays
