"""What a run of SGD on weights needs of its input: concrete values raise, traced ones say so."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, DTypeLike

from learndyn._checks import is_concrete, require_unbatched
from learndyn._types import Times
from learndyn.inputs import AbstractInputs, InputsLike, TrainingSet
from learndyn.problems import Problem
from learndyn.rules import SGD, SlowMomentum
from learndyn.states import Weights, require_compatible


def are_valid_times(ts: Times, n: int, batch_size: int) -> Bool[Array, ""]:
    """Whether ts can be met: only then may steps be counted from them."""
    return jnp.all(jnp.diff(ts) > 0) & (ts[0] >= 0) & (ts[-1] * n < _most_steps(batch_size))


def are_valid_values(
    problem: Problem, rule: SGD, weights: Weights, inputs: AbstractInputs | TrainingSet
) -> Bool[Array, ""]:
    """Whether every float is finite and in its range: what the constructors cannot raise."""
    leaves = jax.tree.leaves(eqx.filter((problem, rule, weights, inputs), eqx.is_inexact_array))
    good = [jnp.all(jnp.isfinite(leaf)) for leaf in leaves]
    signed = [problem.noise, rule.weight_decay]
    signed += [rate for rate in (rule.lr, rule.lr_second, rule.lr_bias) if eqx.is_array(rate)]
    good += [jnp.all(value >= 0) for value in signed]
    if problem.has_multi_index_teacher:
        good.append(problem.noise == 0)
    if isinstance(rule.momentum, SlowMomentum):
        good.append((rule.momentum.gamma > 0) & (rule.momentum.gamma <= weights.n))
    elif rule.momentum is not None:
        good.append((rule.momentum >= 0) & (rule.momentum < 1))
    return jnp.all(jnp.stack(good))


def require_valid(
    problem: Problem,
    rule: SGD,
    weights: Weights,
    ts: Times,
    inputs: InputsLike,
) -> None:
    """Raises: ValueError for concrete values that no run can have."""
    named = [("w", weights.w, 2), ("w_teacher", weights.w_teacher, 2), ("v", weights.v, 1)]
    require_unbatched(named + _floats(problem, rule), "simulate_sgd")
    require_compatible(problem, rule.lr_bias is not None, weights)
    if not isinstance(inputs, AbstractInputs | TrainingSet):
        raise ValueError(
            "inputs must be a distribution of inputs, such as Gaussian(), Structured(omega), "
            f"Images(x) or TrainingSet(base, p); got {inputs!r}."
        )
    inputs.require_dimension(weights.n)
    if isinstance(inputs, TrainingSet) and not inputs.replace and rule.batch_size > inputs.p:
        raise ValueError(
            "batch_size must be at most p, the size of the training set, unless replace=True; "
            f"got batch_size={rule.batch_size}, p={inputs.p}."
        )
    if is_concrete(weights) and not all(np.isfinite(x).all() for x in jax.tree.leaves(weights)):
        raise ValueError("weights must be finite; got NaN or infinity among them.")
    _require_countable(ts, weights.n, rule.batch_size)
    _require_slow(rule, weights.n)


def _floats(problem: Problem, rule: SGD) -> list[tuple[str, Array, int]]:
    """The numbers of problem and rule, by name, with the axes they may have: none."""
    slow = isinstance(rule.momentum, SlowMomentum)
    named = {
        "noise": problem.noise,
        "lr": rule.lr,
        "lr_second": rule.lr_second,
        "lr_bias": rule.lr_bias,
        "weight_decay": rule.weight_decay,
        "momentum": rule.momentum.gamma if slow else rule.momentum,
    }
    return [(name, value, 0) for name, value in named.items() if eqx.is_array(value)]


def _require_countable(ts: Times, n: int, batch_size: int) -> None:
    most = _most_steps(batch_size)
    if is_concrete(ts) and float(np.asarray(ts)[-1]) * n >= most:
        raise ValueError(
            f"a run can have fewer than {most:.3g} steps; got ts[-1] * n = "
            f"{float(np.asarray(ts)[-1]) * n:.3g}. jax_enable_x64 counts further."
        )


def _require_slow(rule: SGD, n: int) -> None:
    if isinstance(rule.momentum, SlowMomentum) and is_concrete(rule.momentum.gamma):
        if (np.asarray(rule.momentum.gamma) > n).any():
            raise ValueError(
                "SlowMomentum means beta = 1 - gamma/n >= 0, so gamma must be at most n; got "
                f"gamma={rule.momentum.gamma}, n={n}."
            )


def _most_steps(batch_size: int) -> float:
    """Steps are counted through alpha n, and samples in integers: exact up to here."""
    if jnp.result_type(float) == jnp.float64:
        return 2.0**52 / batch_size
    return min(2.0**24, 2.0**31 / batch_size)


def checked_dtype(dtype: DTypeLike | None, weights: Weights) -> jnp.dtype:
    """The float type of the inputs, by default that of the weights."""
    if dtype is None:
        return weights.w.dtype
    allowed = (jnp.float32, jnp.result_type(float))  # float64 where JAX has it
    try:
        known = jnp.dtype(dtype) in allowed
    except TypeError:
        known = False
    if not known:
        raise ValueError(
            f"input_dtype must be None, float32 or (with jax_enable_x64) float64; got {dtype!r}."
        )
    return jnp.dtype(dtype)
