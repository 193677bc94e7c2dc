"""The two networks as Equinox models."""

import equinox as eqx
from jaxtyping import Array, Float

from learndyn._checks import require_unbatched
from learndyn._types import ScalarFunction
from learndyn.problems import MultiIndex
from learndyn.states._arguments import ProblemLike, WeightsLike, require_arguments


class TwoLayer(eqx.Module):
    """x -> sum_i v_i g(w_i.x/sqrt n + b_i): a network as an Equinox model.

    Args:
        w: (units, n) first layer.
        v: (units,) second layer.
        b: (units,) biases, or None.
        activation: g, an elementwise function.

    Example:
        >>> w, v = jnp.ones((2, 4)), jnp.array([1.0, -0.5])
        >>> net = ld.TwoLayer(w=w, v=v, b=None, activation=ld.Linear())
        >>> float(net(jnp.ones(4)))
        1.0
    """

    w: Float[Array, "units n"]
    v: Float[Array, " units"]
    b: Float[Array, " units"] | None
    activation: ScalarFunction

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        fields = self.w @ x / self.w.shape[1] ** 0.5
        return self.v @ self.activation(fields if self.b is None else fields + self.b)


def student(problem: ProblemLike, weights: WeightsLike) -> TwoLayer:
    """The student network: `student(problem, weights)(x)` with x of shape (n,) is phi.

    Args:
        problem: the teacher-student problem.
        weights: of student and teacher; those of the student are taken.

    Raises:
        ValueError: for a batch of weights, or anything that is none (overlaps, for example).

    Example:
        >>> weights = ld.Weights(w=[[1.0, 1.0, 0.0, 0.0]], w_teacher=[[2.0, 0.0, 0.0, 0.0]])
        >>> net = ld.student(ld.Problem(ld.Linear(), ld.Linear()), weights)
        >>> float(net(jnp.ones(4)))
        1.0
    """
    require_arguments("student", problem=problem, weights=weights)
    require_unbatched([("w", weights.w, 2)], "student")
    return TwoLayer(weights.w, weights.v, weights.b, problem.student)


def teacher(problem: ProblemLike, weights: WeightsLike) -> TwoLayer:
    """The teacher network without label noise; a function of the latent variables, where the
    weights have a `latent_teacher`.

    Args:
        problem: the teacher-student problem.
        weights: of student and teacher; those of the teacher are taken.

    Raises:
        ValueError: as `student`, and for a multi-index teacher, which is a function of fields, not
            a network.

    Example:
        >>> weights = ld.Weights(w=[[1.0, 1.0, 0.0, 0.0]], w_teacher=[[2.0, 0.0, 0.0, 0.0]])
        >>> net = ld.teacher(ld.Problem(ld.Linear(), ld.Linear()), weights)
        >>> float(net(jnp.ones(4)))
        1.0
    """
    require_arguments("teacher", problem=problem, weights=weights)
    require_unbatched([("w_teacher", weights.w_teacher, 2)], "teacher")
    if isinstance(problem.teacher, MultiIndex):
        raise ValueError(
            "teacher(...) needs a teacher given by an activation; a MultiIndex teacher is a "
            "function of the fields w_teacher @ x / sqrt(n): call problem.teacher with them."
        )
    w = weights.w_teacher if weights.latent_teacher is None else weights.latent_teacher
    return TwoLayer(w, weights.v_teacher, weights.b_teacher, problem.teacher)
