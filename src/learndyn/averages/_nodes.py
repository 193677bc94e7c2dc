"""Averages of any problem over a set of nodes: f = S z with C = S S^T."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.psd_root import scaled_root
from learndyn.averages._closed import ClosedForm
from learndyn.averages._roots import field_root
from learndyn.averages._samples import Rest, labels, modulations, sum_errors, sum_fields
from learndyn.averages._seen import seen_state
from learndyn.averages._types import AbstractAverages
from learndyn.problems import Layers, Problem, regularity
from learndyn.rules import AbstractRule, FieldAverages, Modulation, Seen
from learndyn.states import Overlaps

Observable = Callable[[Array, Array, Modulation], Array]
Sum = Callable[..., Any]
"""(problem, rule, fields, centred fields, rest, weight, layers) -> a tree of averages."""

Nodes = tuple[Array, Array]
"""(replicates, points, dims) and (points,), or (replicates, points) where weights differ."""


class NodeAverages(AbstractAverages):
    """Averages over nodes z, with weights that are the same for all replicates or not.

    How averages are differentiated with respect to the covariance C and the biases b:

    - `smooth`: by d<h>/dC_ab = <d2h / df_a df_b> / 2 (Price 1958), right at singular C too.
    - `score`, where h jumps in the student's fields and anything else would be silently wrong: by
      acting on the measure, d<h>/dC = S^-T <h (z z^T - 1)> S^-1 / 2, d<h>/db = S^-T <h z>. First
      derivatives only; with a loss whose slope jumps (hinge, perceptron) derivatives with respect
      to v miss the motion of the jump.
    - `still_labels`, where labels may jump and h does not in the student's fields: the teacher's
      fields and the labels stay where they are, and the student's move, given the teacher's. With
      respect to Q, R, v and b that is right for any label; with respect to T and b_teacher the
      score acts, and first derivatives alone are right. `smooth_student` says that h has no kinks
      in the student's fields either: Price's formula for these is then right at singular Q - R T^-1
      R^T, too.
    - None of these, where h has kinks: through the nodes; wrong at singular C, where S lacks
      directions.

    Attributes:
        z: (replicates, points, dims) the nodes.
        weight: (points,), or those of each replicate, (replicates, points).
        score, smooth, still_labels, smooth_student: which derivatives are right, see above.
        exact_error: whether eg is taken in closed form, which it may have where the rule has none.
        for_label: whether nodes are made for the label, so that the teacher's fields come first.
        draws: how many of the dimensions, the last ones, are a rule's own numbers.
        copies: how many samples a node is, one after the other, for a rule that takes episodes.
        coarsest_nodes, coarse, fine: coarser and finer sets of nodes and weights, whose differences
            tell the error where there is but one replicate.
        exact: whether what is averaged is a polynomial that the nodes integrate exactly.

    Example:
        >>> problem, start = ld.Problem(), ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> gauss = averages.GaussHermite(20)
        >>> ready = averages.choose_nodes(problem, 1, 1, biases=False, nodes=gauss)
        >>> exact = ld.generalisation_error(problem, start)
        >>> round(float(exact), 4), round(float(ready.generalisation_error(problem, start)), 4)
        (0.1788, 0.1788)
    """

    z: Float[Array, "replicates points dims"]
    weight: Float[Array, " points"] | Float[Array, "replicates points"]
    score: bool = eqx.field(static=True)
    smooth: bool = eqx.field(static=True, default=False)
    coarse: Nodes | None = None
    exact_error: bool = eqx.field(static=True, default=False)
    fine: Nodes | None = None
    still_labels: bool = eqx.field(static=True, default=False)
    smooth_student: bool = eqx.field(static=True, default=False)
    for_label: bool = eqx.field(static=True, default=False)
    draws: int = eqx.field(static=True, default=0)
    copies: int = eqx.field(static=True, default=1)
    coarsest_nodes: Nodes | None = None
    exact: bool = eqx.field(static=True, default=False)

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        return self._field_averages(sum_fields, problem, rule, state)

    def averages_beyond(
        self, problem: Problem, rule: AbstractRule, state: Overlaps, reference: Problem
    ) -> FieldAverages:
        """Those of `problem` less those of `reference`, which differ by what the label does."""
        return self._field_averages(_difference(sum_fields, reference), problem, rule, state)

    def error_beyond(
        self, problem: Problem, state: Overlaps, reference: Problem
    ) -> Float[Array, ""]:
        """eg of `problem` less that of `reference`, both with squared loss."""
        of = _difference(sum_errors, reference)
        # (phi - y)**2 is continuous in the student's fields, where its slope may not be.
        score = not regularity(problem.student).is_continuous
        return self._sum(of, problem, None, state, score=score)

    def _field_averages(
        self, of: Sum, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        fields, phi, h, mean = self._sum(of, problem, rule, state, score=self.score)
        # G = <F f> C^+, with S's left inverse X: C^+ = X^T X.
        inverse = field_root(state, student_first=self._student_first).inverse()
        return FieldAverages((fields @ inverse.T) @ inverse, phi, h, mean, fields)

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        if self.exact_error:
            return ClosedForm().generalisation_error(problem, state)
        # Whether two signs differ jumps in the student's fields, whatever the rule makes of them.
        score = self.score or problem.is_classification
        return self._sum(sum_errors, problem, None, state, score=score)

    def neighbours(self) -> "tuple[NodeAverages, NodeAverages] | None":
        """Averages over the next coarser and the next finer nodes; None: replicates
        tell the error."""
        if self.exact or self.coarse is None or self.fine is None:
            return None
        return self.over(self.coarse), self.over(self.fine)

    def coarsest(self) -> "NodeAverages | None":
        """Averages over nodes two steps coarser."""
        return None if self.coarsest_nodes is None else self.over(self.coarsest_nodes)

    def covariance_of(
        self, problem: Problem, rule: AbstractRule, state: Overlaps, observable: Observable
    ) -> Float[Array, "q q"]:
        """Covariance over samples of observable(lam, rho, modulation), a vector of length q.

        Exact in the label noise for observables up to second degree in the modulation. Of a rule
        that takes episodes: of the mean over the samples of an episode. rho are the teacher's
        fields of the student's input, which may be noisy.
        """
        z, rest, weight = self._split(rule, state)
        seen, layers = seen_state(rule, state), state.layers
        root = field_root(seen, student_first=self._student_first)
        f = z @ root.matrix().T
        lam, rho = f[:, : state.k], f[:, state.k :]
        along = rho
        if rule.input_noise is not None:
            told, left = _noisy_teacher(rule.input_noise, state, root.inverse())
            along = z @ told.T + rest.draws @ left.T
        mean, second = jnp.zeros(()), jnp.zeros(())
        for probability, y in labels(problem, rule, rho, rest.zeta, layers, points=3):
            found = modulations(problem, rule, lam, y, layers, rest)
            value = jax.vmap(observable)(lam, along, found)
            if self.copies > 1:
                value = value.reshape(-1, self.copies, value.shape[1]).mean(axis=1)
                weight = weight.reshape(-1, self.copies).sum(axis=1)
            weighted = value * (weight * probability)[:, None]
            mean = mean + jnp.sum(weighted, axis=0)
            second = second + weighted.T @ value
        return second - jnp.outer(mean, mean)

    @property
    def replicates(self) -> int:
        return 0 if self.exact else self.z.shape[0]

    @property
    def holds_at_singular(self) -> bool:
        """Nodes are made for the state where they have to: `fixed_points` does that."""
        return False

    @property
    def is_stepwise(self) -> bool:
        return self.score

    @property
    def has_stepwise_slopes(self) -> bool:
        moves_smoothly = self.smooth or (self.still_labels and self.smooth_student)
        return self.score or not moves_smoothly

    def replicate(self, index: Array) -> "NodeAverages":
        """The same averages over one replicate alone, for error estimates."""
        weight = self.weight if self.weight.ndim == 1 else self.weight[index]
        return eqx.tree_at(lambda a: (a.z, a.weight), self, (self.z[index][None], weight))

    def over(self, nodes: Nodes) -> "NodeAverages":
        """The same averages over other nodes."""
        neighbours = lambda a: (a.z, a.weight, a.coarsest_nodes, a.coarse, a.fine)
        none = lambda x: x is None
        return eqx.tree_at(neighbours, self, (*nodes, None, None, None), is_leaf=none)

    def _sum(
        self, of: Sum, problem: Problem, rule: AbstractRule | None, state: Overlaps, *, score: bool
    ) -> Any:
        nodes = self._split(rule, state)
        if self.smooth and not score:
            return _smooth_average(of, problem, rule, state, nodes)
        if score:
            return _scored_average(of, problem, rule, state, nodes, not self.for_label)
        if self.still_labels:
            smooth = self.smooth_student
            return _still_average(of, problem, rule, state, nodes, smooth=smooth)
        z, rest, weight = nodes
        f = z @ field_root(state, student_first=True).matrix().T
        return of(problem, rule, f, f, rest, weight, state.layers)

    @property
    def _student_first(self) -> bool:
        return not self.for_label and (self.smooth or self.score or not self.still_labels)

    def _split(
        self, rule: AbstractRule | None, state: Overlaps
    ) -> tuple[Float[Array, "p d"], Rest, Float[Array, " p"]]:
        """White fields, label noise and more, and weights of the samples of all nodes."""
        replicates, points, dims = self.z.shape
        d, dims = state.k + state.m, dims // self.copies
        nodes = self.z.reshape(-1, dims)
        zeta = nodes[:, d] if dims - self.draws > d else jnp.zeros(len(nodes))
        weight = jnp.broadcast_to(self.weight / replicates, (replicates, points)).ravel()
        weight = jnp.repeat(weight / self.copies, self.copies) if self.copies > 1 else weight
        reads = rule is not None and rule.needs_overlaps
        seen = Seen(state.Q, state.R) if reads else None
        return nodes[:, :d], Rest(zeta, nodes[:, dims - self.draws :], seen), weight


def _noisy_teacher(
    std: Array, state: Overlaps, inverse: Float[Array, "d d"]
) -> tuple[Float[Array, "m d"], Float[Array, "m m"]]:
    """A and L with A z + L a the teacher's fields of noisy inputs, a ~ N(0, 1), where S z are the
    fields of a sample, those of the student noisy as well.

    inverse: of S.
    """
    factor = 1.0 + std**2
    # Conditioning of Gaussian numbers
    told = jnp.concatenate([factor * state.R.T, state.T], axis=1) @ inverse.T
    rest, _ = scaled_root(factor * state.T - told @ told.T, jnp.diagonal(state.T))
    return told, rest


def _difference(of: Sum, reference: Problem) -> Sum:
    """The same sum, node by node less that of another problem."""

    def less(problem: Problem, *rest: Any) -> Any:
        return jax.tree.map(jnp.subtract, of(problem, *rest), of(reference, *rest))

    return less


def _smooth_average(
    of: Sum, problem: Problem, rule: AbstractRule | None, state: Overlaps, nodes: Any
) -> Any:
    """Where all fields move and nothing jumps."""
    z, rest, weight = nodes
    root = field_root(state, student_first=True).matrix()
    still = _Still(None, None, rest, weight, state.layers)
    return _moving_average(of, state.covariance, root, (problem, rule, z, still))


def _still_average(
    of: Sum,
    problem: Problem,
    rule: AbstractRule | None,
    state: Overlaps,
    nodes: Any,
    *,
    smooth: bool,
) -> Any:
    """Where the student's fields move, given the teacher's, which stay, with their labels."""
    (z, own, weight), k = nodes, state.k
    frozen = jax.lax.stop_gradient(state)
    root = field_root(state, student_first=False)
    still_root = jax.lax.stop_gradient(root.first), jax.lax.stop_gradient(root.first_inverse)
    rho = z[:, k:] @ still_root[0].T
    shift = None
    if state.b_teacher is not None:
        shift = state.b_teacher - jax.lax.stop_gradient(state.b_teacher)
    weight = weight * (1 + _score(z[:, k:], still_root[1], state.T - frozen.T, shift))
    layers = state.layers._replace(b_teacher=frozen.b_teacher)
    # The label stays with rho + b_teacher, of which the centred field is a part.
    centred = rho if shift is None else rho - shift
    mean = centred @ root.regression().T
    still = _Still(mean, (rho, centred), own, weight, layers)
    if not smooth:
        return still.average(of, problem, rule, z[:, :k] @ root.rest.T)
    rest = state.Q - root.mixing @ root.mixing.T
    return _moving_average(of, rest, root.rest, (problem, rule, z[:, :k], still))


def _scored_average(
    of: Sum,
    problem: Problem,
    rule: AbstractRule | None,
    state: Overlaps,
    nodes: Any,
    student_first: bool,
) -> Any:
    """Where no field moves and weights do."""
    z, rest, weight = nodes
    frozen = jax.lax.stop_gradient(state)
    root = field_root(frozen, student_first=student_first)
    change = state.covariance - frozen.covariance
    shift = None
    if state.b is not None and state.b_teacher is not None:
        b = jnp.concatenate([state.b, state.b_teacher])
        shift = b - jax.lax.stop_gradient(b)
    weight = weight * (1 + _score(z, root.inverse(), change, shift))
    layers = state.layers._replace(b=frozen.b, b_teacher=frozen.b_teacher)
    f = z @ root.matrix().T
    # With the score the measure moves with b, and centred fields do not.
    centred = f if shift is None else f - shift
    return of(problem, rule, f, centred, rest, weight, layers)


def _score(
    z: Float[Array, "p r"],
    inverse: Float[Array, "r r"],
    change: Float[Array, "r r"],
    shift: Float[Array, " r"] | None,
) -> Float[Array, " p"]:
    """A number that is 0 and whose derivative is that of the log density of fields S z.

    inverse: of S. change, shift: of their covariance and mean, 0 but for their derivatives.
    """
    whitened = inverse @ change @ inverse.T
    score = 0.5 * (jnp.sum((z @ whitened) * z, axis=1) - jnp.trace(whitened))
    return score if shift is None else score + z @ (inverse @ shift)


class _Still(NamedTuple):
    """What stays while fields move: their means (p, r), further fields, as evaluated and centred,
    the samples' other numbers, weights and layers. None: means of 0, no further fields."""

    mean: Float[Array, "p r"] | None
    others: tuple[Array, Array] | None
    rest: Rest
    weight: Float[Array, " p"]
    layers: Layers

    def average(self, of: Sum, problem: Problem, rule: Any, moved: Float[Array, "p r"]) -> Any:
        f = moved if self.mean is None else self.mean + moved
        both = (f, f)
        if self.others is not None:
            both = tuple(jnp.concatenate([f, x], axis=1) for x in self.others)
        return of(problem, rule, *both, self.rest, self.weight, self.layers)


@eqx.filter_custom_jvp
def _moving_average(of: Sum, c: Float[Array, "r r"], root: Float[Array, "r r"], rest: Any) -> Any:
    """The average of a smooth function over fields of covariance c = root root^T about means.

    The derivative with respect to c is Price's: that of the root, which is not smooth at singular
    c, does not enter.
    """
    problem, rule, z, still = rest
    return still.average(of, problem, rule, z @ root.T)


@_moving_average.def_jvp
def _moving_average_jvp(primals, tangents):
    of, c, root, rest = primals
    _, dc, _, d_rest = tangents
    r, moved = len(c), rest[2] @ root.T

    def at(shift: Array, rest: Any) -> Any:
        problem, rule, _, still = rest
        return still.average(of, problem, rule, moved + shift)

    none = jnp.zeros(r, c.dtype)
    value, change = eqx.filter_jvp(lambda rest: at(none, rest), (rest,), (d_rest,))
    if dc is None:
        return value, change

    def second(directions: tuple[Array, Array]) -> Any:
        def first(shift: Array) -> Any:
            return jax.jvp(lambda s: at(s, rest), (shift,), (directions[0],))[1]

        return jax.jvp(first, (none,), (directions[1],))[1]

    # Pair by pair: there are thousands of nodes.
    a, b = np.triu_indices(r)
    curvature = jax.lax.map(second, (jnp.eye(r)[a], jnp.eye(r)[b]))
    half = jnp.where(a == b, 0.5 * dc[a, b], 0.5 * (dc[a, b] + dc[b, a]))

    def add(h: Array, x: Array | None) -> Array:
        through_c = jnp.tensordot(half, h, 1)
        return through_c if x is None else x + through_c  # None: nothing else changes

    return value, jax.tree.map(add, curvature, change, is_leaf=lambda x: x is None)
