"""Sums over nodes of what one sample, or one episode of samples, contributes: labels, modulations
and errors."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn.problems import Layers, MultiIndex, Problem, Sign, is_squared
from learndyn.rules import AbstractRule, Modulation, Sample, Seen

_ZETA_STEP = 1 / 16
"""Spacing of the label noise's lattice: the error of the trapezoidal rule for smooth f falls like
exp(-2 pi**2 / spacing**2), far below rounding, and 257 points meet a jump to 2 %."""


class Rest(NamedTuple):
    """What samples have besides their fields: label noise, the rule's own numbers, and the overlaps
    that it reads (None: none)."""

    zeta: Float[Array, " p"]
    draws: Float[Array, "p draws"]
    seen: Seen | None = None


def sum_fields(
    problem: Problem,
    rule: AbstractRule,
    f: Float[Array, "p d"],
    centred: Float[Array, "p d"],
    rest: Rest,
    weight: Float[Array, " p"],
    layers: Layers,
) -> tuple[Float[Array, "k d"], Float[Array, "k k"], Float[Array, " k"], Float[Array, " k"]]:
    """<F_i f_c>, <F_i F_i'>, <H_i> and <F_i>, with samples at fields f.

    `centred` has the value of f; it stands apart because f may carry derivatives with respect to
    the biases, and centred fields do not. Of episodes, whose samples follow one another, all
    averages are means over the samples.
    """
    if rule.is_episode:
        weight = _episode_weights(rule, weight)
    k, d = len(layers.v), f.shape[1]
    fields, phi, h, mean = (jnp.zeros(shape) for shape in ((k, d), (k, k), k, k))
    for probability, y in labels(problem, rule, f[:, k:], rest.zeta, layers):
        found = modulations(problem, rule, f[:, :k], y, layers, rest)
        weighted = found.c * (weight * probability)[:, None]
        fields += weighted.T @ centred
        phi += weighted.T @ found.c
        h += (weight * probability) @ found.dv
        mean += jnp.sum(weighted, axis=0)
    return fields, phi, h, mean


def _episode_weights(rule: AbstractRule, weight: Float[Array, " p"]) -> Float[Array, " p"]:
    """Weights of samples, whose derivatives are those of their densities, as weights of episodes:
    the density of an episode is the product of those of its samples."""
    of_samples = weight.reshape(-1, int(rule.batch_size))
    still = jax.lax.stop_gradient(of_samples)
    change = 1.0 + jnp.sum((of_samples - still) / still, axis=1, keepdims=True)
    return (still * change).ravel()


def sum_errors(
    problem: Problem,
    rule: AbstractRule | None,
    f: Float[Array, "p d"],
    centred: Float[Array, "p d"],
    rest: Rest,
    weight: Float[Array, " p"],
    layers: Layers,
) -> Float[Array, ""]:
    """The generalisation error, whatever the rule and the noise; arguments as for `sum_fields`, so
    that one function takes both sums."""
    k = len(layers.v)
    phi = jax.vmap(problem.student_output, (0, None))(f[:, :k], layers)
    phi_teacher = clean_teacher_output(problem, f[:, k:], layers)
    if problem.is_classification:
        return weight @ ((phi >= 0) != (phi_teacher >= 0)).astype(phi.dtype)
    return 0.5 * weight @ (phi - phi_teacher) ** 2


def modulations(
    problem: Problem,
    rule: AbstractRule,
    lam: Float[Array, "p k"],
    y: Float[Array, " p"],
    layers: Layers,
    rest: Rest | None = None,
) -> Modulation:
    """The rule's modulation of each sample, as n -> infinity: |x|**2/n = 1, or 1 + s**2 of inputs
    with noise s. rest: None for a rule that neither draws nor reads overlaps."""
    own, size = layers.of_student, jnp.ones_like(y)
    size = size if rule.input_noise is None else (1.0 + rule.input_noise**2) * size
    draws, seen = (jnp.zeros((len(y), 0)), None) if rest is None else (rest.draws, rest.seen)
    if not rule.is_episode:
        return rule.modulations(problem, Sample(lam, y, draws, size, seen), own)

    def apart(x: Array) -> Array:
        return x.reshape(len(y) // int(rule.batch_size), int(rule.batch_size), *x.shape[1:])

    def episode(samples: Sample) -> Modulation:
        return rule.modulations(problem, samples._replace(overlaps=seen), own)

    samples = Sample(apart(lam), apart(y), apart(draws), apart(size))
    return Modulation(*(x.reshape(lam.shape) for x in jax.vmap(episode)(samples)[:2]))


def clean_teacher_output(
    problem: Problem, rho: Float[Array, "p m"], layers: Layers
) -> Float[Array, " p"]:
    """phi* without label noise; a multi-index teacher is averaged over zeta."""
    if not isinstance(problem.teacher, MultiIndex):
        return jax.vmap(problem.teacher_output, (0, None))(rho, layers)
    if not uses_zeta(problem.teacher, rho.shape[1]):
        return jax.vmap(problem.teacher, (0, None))(rho, jnp.zeros((), rho.dtype))
    # The trapezoidal rule is spectral for smooth f and forgiving where f jumps in zeta.
    zeta = jnp.arange(-8, 8 + _ZETA_STEP / 2, _ZETA_STEP)
    density = jnp.exp(-0.5 * zeta**2)
    density = density / density.sum()

    def averaged(one_rho: Float[Array, " m"]) -> Float[Array, ""]:
        return density @ jax.vmap(problem.teacher, (None, 0))(one_rho, zeta)

    # Batches of 1024 fields bound the memory, whatever the number of nodes.
    return jax.lax.map(averaged, rho, batch_size=min(1024, len(rho)))


def needs_zeta_node(problem: Problem, rule: AbstractRule | None = None) -> bool:
    """Whether label noise needs its own dimension of nodes, because it has no exact finite rule.

    rule: None asks for eg alone, which has no label noise.
    """
    if problem.has_multi_index_teacher or problem.overrides("label"):
        return True
    if rule is not None and rule.is_episode:
        return True  # a sum over the labels of all its samples would be long
    if problem.is_classification:
        return False
    return not is_squared(problem.loss) or not is_linear_in_error(problem, rule)


def has_zeta_node(problem: Problem, rule: AbstractRule | None, m: int) -> bool:
    """Whether nodes have a number for the label noise: not where a MultiIndex of m fields does not
    use it."""
    if problem.has_multi_index_teacher and not problem.overrides("label"):
        return uses_zeta(problem.teacher, m)
    if rule is not None and rule.is_episode and not problem.overrides("label"):
        noises = problem.noise, problem.flip
        return not is_concrete(noises) or any(np.any(np.asarray(x) > 0) for x in noises)
    return needs_zeta_node(problem, rule)


def uses_zeta(teacher: MultiIndex, m: int) -> bool:
    """Whether f(rho, zeta) has its second argument in its traced program."""
    numbers = [jax.ShapeDtypeStruct(shape, jnp.result_type(float)) for shape in ((m,), ())]
    program = jax.make_jaxpr(lambda rho, zeta: teacher(rho, zeta))(*numbers).jaxpr
    return bool(dce_jaxpr(program, [True])[1][1])


def is_linear_in_error(problem: Problem, rule: AbstractRule | None) -> bool:
    """Whether a modulation is the loss's slope times functions of the fields, as declared."""
    return rule is None or (
        rule.propagates_error and not problem.overrides(*rule.reads, "student_output")
    )


def at_rest(problem: Problem, rule: AbstractRule) -> tuple[Problem, AbstractRule]:
    """Both without the numbers that no modulation depends on, which may be traced."""
    # All others, such as a feedback, are the rule's own.
    names = ("lr", "lr_second", "lr_bias", "weight_decay", "momentum")
    rates = lambda rule: [getattr(rule, name) for name in names]
    still = eqx.tree_at(rates, rule, [None] * len(names), is_leaf=lambda x: x is None)
    quiet = eqx.tree_at(lambda p: p.noise, problem, 0.0)
    if isinstance(problem.teacher, Sign):
        quiet = eqx.tree_at(lambda p: p.teacher.flip, quiet, 0.0)
    return quiet, still


def labels(
    problem: Problem,
    rule: AbstractRule,
    rho: Float[Array, "p m"],
    zeta: Float[Array, " p"],
    layers: Layers,
    points: int = 2,
) -> list[tuple[Float[Array, " p"] | float, Float[Array, " p"]]]:
    """Labels with their probabilities given the fields: a sum over label noise.

    Exact for classification and, where the modulation is linear in the noise, for polynomials of
    it of degree up to 2 points - 1.
    """
    if needs_zeta_node(problem, rule):
        return [(1.0, jax.vmap(problem.label, (0, 0, None))(rho, zeta, layers))]
    clean = jax.vmap(problem.teacher_output, (0, None))(rho, layers)
    if problem.is_classification:
        one = jnp.ones_like(clean)
        positive = probability_positive(problem, clean)
        return [(positive, one), (1 - positive, -one)]
    # Gauss and Hermite's rule for zeta.
    x, w = np.polynomial.hermite_e.hermegauss(points)
    return [(p, clean + x_i * problem.noise) for x_i, p in zip(x, w / w.sum(), strict=True)]


def probability_positive(problem: Problem, clean: Float[Array, "*p"]) -> Float[Array, "*p"]:
    """P(y = 1) where the teacher's noiseless output is `clean`, a step for noise = 0."""
    noisy = problem.noise > 0
    smooth = jax.scipy.special.ndtr(clean / jnp.where(noisy, problem.noise, 1.0))
    positive = jnp.where(noisy, smooth, jnp.where(clean >= 0, 1.0, 0.0))
    return problem.flip + (1.0 - 2.0 * problem.flip) * positive
