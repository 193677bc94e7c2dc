"""Several tasks on weights, written out once more in NumPy: what the library's levels are held to.

Two erf units learn tasks by SGD with squared loss. The start is one set of weights with exactly the
overlaps asked for. Nothing of the library is used.
"""

import dataclasses

import numpy as np
from scipy.special import erf

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Setting:
    """One experiment. Before alpha = switch a step is one of task t with probability before[t],
    from then on with probability after[t].

    v_teacher: (tasks, m). drift: (m,) rates at which the teachers wander, None: they stay.
    """

    v_teacher: Array
    lr: float
    lr_second: float
    noise: float
    switch: float
    before: tuple[float, ...]
    after: tuple[float, ...]
    drift: tuple[float, ...] | None = None


def run(
    setting: Setting,
    Q: Array,
    R: Array,
    T: Array,
    heads: Array,
    ts: Array,
    *,
    n: int,
    runs: int,
    rng: np.random.Generator,
) -> Array:
    """(runs, coordinates) at all times ts > 0, of runs from these overlaps."""
    m, k = len(T), len(Q)
    rows = np.linalg.cholesky(np.block([[T, R.T], [R, Q]]))
    w = np.zeros((runs, m + k, n))
    w[:, :, : m + k] = n**0.5 * rows
    heads, found, done = np.tile(heads, (runs, 1, 1)), [], 0
    for steps in np.round(np.asarray(ts) * n).astype(int):
        for step in range(done, steps):
            shares = setting.before if step < round(setting.switch * n) else setting.after
            w, heads = _step(setting, w, heads, m, shares, rng)
            if setting.drift is not None:
                w = _wander(w, setting.drift, np.diag(T), rng)
        done = steps
        c = w @ w.transpose(0, 2, 1) / n
        found.append(coordinates(setting, c[:, m:, m:], c[:, m:, :m], c[:, :m, :m], heads))
    return np.concatenate(found, axis=1)


def _step(
    setting: Setting,
    w: Array,
    heads: Array,
    m: int,
    shares: tuple[float, ...],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """A step of one task in each run; w has the teachers first."""
    runs, _, n = w.shape
    x = rng.standard_normal((runs, n))
    task, each = rng.choice(len(shares), size=runs, p=shares), np.arange(runs)
    fields = (w @ x[:, :, None])[:, :, 0] / n**0.5
    g = erf(fields / 2**0.5)
    v = heads[each, task]
    y = (setting.v_teacher[task] * g[:, :m]).sum(axis=1)
    y = y + setting.noise * rng.standard_normal(runs)
    error = ((v * g[:, m:]).sum(axis=1) - y)[:, None]
    slope = (2 / np.pi) ** 0.5 * np.exp(-(fields[:, m:] ** 2) / 2)
    w, heads = w.copy(), heads.copy()
    w[:, m:] -= setting.lr / n**0.5 * (v * slope * error)[:, :, None] * x[:, None]
    heads[each, task] -= setting.lr_second / n * g[:, m:] * error
    return w, heads


def _wander(w: Array, rates: tuple[float, ...], lengths: Array, rng: np.random.Generator) -> Array:
    """The teachers turn, each at its own rate, and keep their mean squared lengths."""
    m, n = len(rates), w.shape[2]
    a = 1 - np.array(rates)[:, None] / n
    xi = rng.standard_normal((len(w), m, n))
    w[:, :m] = a * w[:, :m] + ((1 - a**2) * lengths[:, None]) ** 0.5 * xi
    return w


def coordinates(setting: Setting, Q: Array, R: Array, T: Array, heads: Array) -> Array:
    """Q without what is there twice, R, all heads, T likewise, and the error of each task, of
    (runs, …) arrays."""
    students, teachers = np.triu_indices(Q.shape[-1]), np.triu_indices(T.shape[-1])
    flat = [R.reshape(len(R), -1), heads.reshape(len(heads), -1)]
    upper = [Q[:, students[0], students[1]], T[:, teachers[0], teachers[1]]]
    return np.concatenate([upper[0], *flat, upper[1], errors(setting, Q, R, T, heads)], axis=1)


def errors(setting: Setting, Q: Array, R: Array, T: Array, heads: Array) -> Array:
    """(runs, tasks): the generalisation error of each task with its own head."""
    size = lambda c: 1 + np.diagonal(c, axis1=1, axis2=2)
    mean = lambda c, a, b: 2 / np.pi * np.arcsin(c / (a[:, :, None] * b[:, None, :]) ** 0.5)
    q, r, t = (
        mean(c, a, b)
        for c, a, b in ((Q, size(Q), size(Q)), (R, size(Q), size(T)), (T, size(T), size(T)))
    )
    v, u = heads, np.broadcast_to(setting.v_teacher, (len(Q), *setting.v_teacher.shape))
    form = lambda a, c, b: np.einsum("rti,rij,rtj->rt", a, c, b)
    return 0.5 * (form(v, q, v) - 2 * form(v, r, u) + form(u, t, u))
