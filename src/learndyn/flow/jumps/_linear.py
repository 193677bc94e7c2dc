"""Two-layer linear networks: plateaus by reduced-rank regression, and when they end."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from learndyn._types import RealLike
from learndyn.flow.jumps._data import SecondMoments, moments
from learndyn.flow.jumps._result import Jumps, Later

RANK = 1e-10
"""Singular values below this, over the largest, count as zero, and entries that connect two blocks:
rounding leaves 1e-15, moments that a file holds to ten digits 1e-10."""

TIED = 1e-10
"""Singular values that agree to this relative precision belong to modes that jump together."""

_POWERS = 32
"""Blocks are told apart by the moments S_yx S_xx^m S_xy with m below this number. They differ at
m <= 1 in general, and at m = number of different eigenvalues of S_xx at the latest."""


def linear_jumps(sxx: Any, syx: RealLike = None) -> Jumps:
    """Plateaus and jump times of gradient flow of f = A W x from small random A, W, as alpha → 0.

    Equation: after r jumps the network holds the best map of rank r, P_r S_yx S_xx⁺ with P_r the
    projector on the leading r eigenvectors of S_yx S_xx⁺ S_xy. If inputs and outputs split into
    blocks that share nothing, each block has its own rank, and a jump raises that of the block with
    the largest singular value of E = S_yx - M S_xx. With σ_i(E_j) the singular values at plateau j,
    times solve Σ_{j<k} σ_{k-j}(E_j) (T_{j+1} - T_j) = 1: column k of the network, in the basis in
    which column k has no share of the modes before it, has grown to order 1.

    The relaxation exponent of plateau k is p_k = mu_k (T_{k+1} - T_k), mu_k the smallest positive
    eigenvalue of the Hessian of the problem of rank k: errors fall as alpha^p_k. It is computed
    when first asked for, because it takes far longer than all else (1 s for 20 x 20 maps).

    Error: rounding, 1e-10. Blocks that are almost separate behave as separate ones until alpha is
    far below their coupling; theory here knows only coupled and not coupled (within 1e-10). Times
    are a heuristic argument, confirmed by simulation; plateaus are exact.

    Args:
        sxx: (d, d) covariance of the inputs.
        syx: (c, d) E[y xᵀ], or (d,); or `flow.Moments` or `flow.Data` in place of sxx. The network
            has at least rank(syx) hidden units.

    Returns:
        `flow.Jumps` with maps (K + 1, c, d), K = rank(syx), and relaxation_exponents. Without the
        labels' own moment, loss is the excess over least squares.

    Raises:
        ValueError: for shapes, complex, infinite or traced input, and where syx is not in the range
            of sxx, so that the loss has no minimum.

    Source:
        Derived here; for commuting moments Saxe et al. (2014), for plateaus Jacot et al. (2022) and
        Li et al. (2021), greedy low-rank learning.

    Example:
        >>> jumps = flow.linear_jumps(np.eye(2), np.diag([2.0, 1.0]))
        >>> jumps.times, jumps.maps[1]
        (array([0.5, 1. ]), array([[2., 0.],
               [0., 0.]]))
    """
    given = moments(sxx, syx, "linear_jumps")
    task = task_of(given)
    walk = _walk(task)
    times = _times(walk.errors)
    loss = np.array([task.excess(p) for p in walk.projectors])
    floor = task.floor(given.zero)
    return Jumps(
        times=times,
        loss=loss + floor,
        floor=floor,
        maps=np.array([p @ task.best for p in walk.projectors]),
        relaxation=Later(_exponents, task, walk.projectors, times),
        ties=walk.ties,
        stopped="nothing is left to learn",
    )


class Task(NamedTuple):
    """sxx, syx, the least-squares map best = S_yx S_xx⁺ and explained = S_yx S_xx⁺ S_xy."""

    sxx: Float[np.ndarray, "d d"]
    syx: Float[np.ndarray, "c d"]
    best: Float[np.ndarray, "c d"]
    explained: Float[np.ndarray, "c c"]

    def excess(self, projector: Float[np.ndarray, "c c"]) -> float:
        """The loss above least squares when outputs in the range of `projector` are learned."""
        rest = np.eye(len(projector)) - projector
        return max(float(np.trace(rest @ self.explained @ rest)) / 2, 0.0)

    def floor(self, zero: float | None) -> float:
        """The least loss, from that of the zero function; 0 where that is unknown."""
        if zero is None:
            return 0.0
        # Where the labels are fitted exactly, rounding would leave less than 0.
        return max(zero - self.excess(np.zeros_like(self.explained)), 0.0)


def task_of(given: SecondMoments) -> Task:
    """The least-squares problem, refused where it has no minimum."""
    values, vectors = np.linalg.eigh(given.sxx)
    if values[0] < -RANK * max(values[-1], 0.0):
        raise ValueError(
            f"sxx must be positive semi-definite; its smallest eigenvalue is {values[0]:.3g}."
        )
    seen = values > RANK * values[-1]
    inverse = (vectors[:, seen] / values[seen]) @ vectors[:, seen].T
    best = given.syx @ inverse
    lost = given.syx - best @ given.sxx
    # Moments of few digits are in the range up to those digits.
    if np.abs(lost).max() > 1e-8 * np.abs(given.syx).max():
        raise ValueError(
            "syx must lie in the range of sxx, else the loss falls without bound; the part outside "
            f"has entries up to {np.abs(lost).max():.3g}."
        )
    explained = best @ given.syx.T
    return Task(given.sxx, given.syx, best, (explained + explained.T) / 2)


class _Walk(NamedTuple):
    """Projectors on what has been learned, (K + 1) of them, and the errors left, E_0 to E_K."""

    projectors: list[Float[np.ndarray, "c c"]]
    errors: list[Float[np.ndarray, "c d"]]
    ties: Any


def _walk(task: Task) -> _Walk:
    bases = [_Block.of(task, basis) for basis in blocks(task)]
    rank = int(np.linalg.matrix_rank(task.syx, tol=RANK * np.linalg.norm(task.syx, 2)))
    ranks = [0] * len(bases)
    projectors, errors, ties = [np.zeros_like(task.explained)], [task.syx], [False]
    for _ in range(rank):
        # The utility of a new neuron in each block
        sizes = [b.largest(task, r) for b, r in zip(bases, ranks, strict=True)]
        ties.append(bool(np.sum(np.array(sizes) > (1 - TIED) * max(sizes)) > 1))
        owner = int(np.argmax(sizes))
        ties[-1] |= bases[owner].tied(ranks[owner])
        ranks[owner] += 1
        learned = sum(b.projector(r) for b, r in zip(bases, ranks, strict=True))
        projectors.append(np.asarray(learned))
        errors.append(task.syx - projectors[-1] @ task.syx)
    # A jump with several candidates ties the jump after it: the last one has a single candidate.
    return _Walk(projectors, errors, np.array(ties[:rank], bool))


class _Block(NamedTuple):
    """One block: its eigenvectors (c, size) of `explained`, in falling order, and eigenvalues."""

    vectors: Float[np.ndarray, "c size"]
    values: Float[np.ndarray, " size"]

    @staticmethod
    def of(task: Task, basis: Float[np.ndarray, "c size"]) -> "_Block":
        values, vectors = np.linalg.eigh(basis.T @ task.explained @ basis)
        return _Block(basis @ vectors[:, ::-1], values[::-1])

    def projector(self, rank: int) -> Float[np.ndarray, "c c"]:
        return self.vectors[:, :rank] @ self.vectors[:, :rank].T

    def largest(self, task: Task, rank: int) -> float:
        """The largest singular value of the block's part of E."""
        left = self.vectors[:, rank:].T @ task.syx
        return float(np.linalg.norm(left, 2)) if len(left) else 0.0

    def tied(self, rank: int) -> bool:
        """Whether the next eigenvector is not determined."""
        following = self.values[rank : rank + 2]
        return len(following) == 2 and bool(following[1] > (1 - TIED) * following[0])


def blocks(task: Task) -> list[Float[np.ndarray, "c size"]]:
    """Orthonormal bases of the finest split of the outputs that all S_yx S_xx^m S_xy respect."""
    scale = np.linalg.norm(task.sxx, 2)
    if scale == 0:
        return [np.eye(len(task.syx))]
    powers, image = [], task.syx
    for _ in range(min(len(task.sxx), _POWERS)):
        power = image @ task.syx.T
        powers.append((power + power.T) / 2 / max(np.abs(power).max(), np.finfo(float).tiny))
        image = image @ task.sxx / scale
    # Eigenvectors of a generic combination, which has no eigenvalue twice by accident
    weights = np.cos(1.0 + np.arange(len(powers)) ** 2)
    vectors = np.linalg.eigh(sum(w * p for w, p in zip(weights, powers, strict=True)))[1]
    linked = np.any([np.abs(vectors.T @ p @ vectors) > RANK for p in powers], axis=0)
    return [vectors[:, members] for members in _components(linked)]


def _components(linked: Any) -> list[Int[np.ndarray, " size"]]:
    """Connected components of a symmetric graph."""
    reach = linked | np.eye(len(linked), dtype=bool)
    for _ in range(len(linked).bit_length()):
        reach = reach @ reach
    return [np.flatnonzero(row) for i, row in enumerate(reach) if np.flatnonzero(row)[0] == i]


def _times(errors: list[Float[np.ndarray, "c d"]]) -> Float[np.ndarray, " jumps"]:
    """T_k from the singular values of the errors left: each column grows at its own rate."""
    values = [np.linalg.svd(e, compute_uv=False) for e in errors]
    times = [0.0]
    for k in range(1, len(errors)):
        waits = np.diff(times)
        grown = sum(values[j][k - j - 1] * waits[j] for j in range(k - 1))
        times.append(max(times[-1] + (1 - grown) / values[k - 1][0], times[-1]))
    return np.array(times[1:])


def _exponents(
    task: Task, projectors: list[Float[np.ndarray, "c c"]], times: Float[np.ndarray, " jumps"]
) -> Float[np.ndarray, " jumps"]:
    if not len(times):
        return times
    # After the last jump there is for ever to relax.
    rates = [_relaxation(task, p) for p in projectors[1:-1]]
    return np.append(np.array(rates) * np.diff(times), np.inf)


def _relaxation(task: Task, projector: Float[np.ndarray, "c c"]) -> float:
    """The smallest positive eigenvalue of the Hessian in (A, W) at the balanced factors of M."""
    left, values, right = np.linalg.svd(projector @ task.best, full_matrices=False)
    rank = round(np.trace(projector))
    root = np.sqrt(values[:rank])
    spectrum = np.linalg.eigvalsh(
        hessian(task, left[:, :rank] * root, root[:, None] * right[:rank])
    )
    # Symmetries have eigenvalues of zero, which rounding leaves below this share of the largest.
    positive = spectrum[spectrum > 1e-9 * spectrum[-1]]
    return float(positive.min())


def hessian(
    task: Task, a: Float[np.ndarray, "c h"], w: Float[np.ndarray, "h d"]
) -> Float[np.ndarray, "p p"]:
    """Second derivatives of the loss in (A, W), flattened row by row, A first."""
    (c, h), d = a.shape, w.shape[1]
    error = task.syx - a @ w @ task.sxx
    aa = np.einsum("ij,kl->ikjl", np.eye(c), w @ task.sxx @ w.T).reshape(c * h, c * h)
    ww = np.einsum("kl,ij->kilj", a.T @ a, task.sxx).reshape(h * d, h * d)
    aw = np.einsum("il,kj->iklj", a, w @ task.sxx) - np.einsum("kl,ij->iklj", np.eye(h), error)
    aw = aw.reshape(c * h, h * d)
    return np.block([[aa, aw], [aw.T, ww]])
