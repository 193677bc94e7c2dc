"""`Problem.gradient` and `Problem.label` for many runs as lanes: the same numbers, but with the
units' axis first and the lanes' last all the way, where a plain `vmap` would transpose.
"""

from typing import Any

import jax
from jaxtyping import Array, Bool, Float

from learndyn.dynamics.chain._lanes import apart, inner, per_lane
from learndyn.problems import Layers, Problem, derivative, label_sign, slope


def lane_gradients(
    problem: Problem,
    lam: Float[Array, "k lanes"],
    y: Float[Array, " lanes"],
    layers: Layers,
    always: Bool[Array, ""],
) -> tuple[Float[Array, "k lanes"], Float[Array, "k lanes"]]:
    """c = dloss/dlambda and dloss/dv of one sample in each lane. always: see `apart`."""
    if _differs(problem.student) or _differs(problem.loss):
        gradient = lambda problem, *arguments: tuple(problem.gradient(*arguments))
        return per_lane(gradient, problem, lam, y, layers)
    student, loss = _common(problem.student), _common(problem.loss)

    def unit(x: Array) -> tuple[Array, Array]:
        return student(x), derivative(student, x)

    x = lam if layers.b is None else lam + layers.b
    g, dg = apart(always, jax.vmap(unit), x)  # over units: elementwise in the lanes
    slopes = jax.vmap(lambda phi, y: slope(loss, phi, y))(inner(layers.v, g), y)
    gradients = lambda v, g, dg, slopes: (v * dg * slopes, g * slopes)
    return apart(always, gradients, layers.v, g, dg, slopes)


def lane_labels(
    problem: Problem,
    rho: Float[Array, "samples m lanes"],
    zeta: Float[Array, "samples lanes"],
    v_teacher: Float[Array, " m #lanes"],
    b_teacher: Float[Array, " m #lanes"] | None,
    always: Bool[Array, ""],
) -> Float[Array, "samples lanes"]:
    """Labels of many samples in each lane. always: see `apart`."""
    if problem.has_multi_index_teacher or _differs(problem.teacher):
        layers = Layers(v_teacher[:0], v_teacher, None, b_teacher)
        label = lambda problem, rho, zeta, layers: jax.vmap(problem.label, (0, 0, None))(
            rho, zeta, layers
        )
        return per_lane(label, problem, rho, zeta, layers)
    teacher = _common(problem.teacher)
    x = rho if b_teacher is None else rho + b_teacher
    g = apart(always, jax.vmap(jax.vmap(teacher)), x)
    y = inner(v_teacher, g) + problem.noise * zeta
    return label_sign(y) if problem.is_classification else y


def _differs(tree: Any) -> bool:
    """Whether a function's own numbers differ from lane to lane."""
    return any(leaf.shape[-1] > 1 for leaf in jax.tree.leaves(tree))


def _common(tree: Any) -> Any:
    """A function that is the same in all lanes, as one run has it."""
    return jax.tree.map(lambda leaf: leaf[..., 0], tree)
