"""Several tasks in plain NumPy: steps of `plain_sgd`, each by the task that is drawn for it."""

import dataclasses

import numpy as np
from plain_sgd import NUMBERS, Batch, Setting, Start, state_of, step, weights_of


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Several tasks at once. settings: of each one. heads: the number of each task's second layer.
    layers: (heads, k) these at the start. teachers: (tasks, m) second layers of the teacher.
    drift: the teachers' vectors keep the part 1 - drift/n in a step."""

    settings: tuple[Setting, ...]
    heads: tuple[int, ...]
    layers: np.ndarray
    teachers: np.ndarray
    drift: float = 0.0


def runs_of_tasks(
    tasks: Tasks, shares: np.ndarray, start: Start, n: int, runs: int, seed: int
) -> np.ndarray:
    """(runs, p) Q, R, T, heads and b after steps from rest; shares: (steps, tasks) probabilities
    that a step is one of a task."""
    rng, first = np.random.default_rng(seed), tasks.settings[0]
    state = state_of(first, start, weights_of(first, start, n), runs, moving=False)
    heads = np.broadcast_to(tasks.layers, (runs, *tasks.layers.shape)).copy()
    lengths = ((state.teacher**2).sum(-1, keepdims=True) / n) ** 0.5
    for t, share in enumerate(shares):
        batch = Batch(
            rng.normal(size=(runs, first.batch, n)),
            None,
            rng.normal(size=(runs, first.batch, NUMBERS)),
        )
        chosen = rng.choice(len(share), size=runs, p=share)
        w, b, after = state.w.copy(), state.b.copy(), heads.copy()
        for i, setting in enumerate(tasks.settings):
            own = dataclasses.replace(
                state, v=heads[:, tasks.heads[i]], v_teacher=tasks.teachers[i]
            )
            moved, mine = step(setting, own, batch, t / n, n), chosen == i
            w[mine], b[mine] = moved.w[mine], moved.b[mine]
            after[mine, tasks.heads[i]] = moved.v[mine]
        kept = 1 - tasks.drift / n
        fresh = (1 - kept**2) ** 0.5 * lengths * rng.normal(size=state.teacher.shape)
        state = dataclasses.replace(state, w=w, b=b, teacher=kept * state.teacher + fresh)
        heads = after
    return tasks_vector(state.w, state.teacher, heads, state.b, n)


def tasks_vector(w: np.ndarray, teacher: np.ndarray, heads: np.ndarray, b: np.ndarray, n: float):
    """(runs, p) Q and T (upper triangles), R, heads and b."""
    product = lambda x, y: x @ y.swapaxes(1, 2) / n
    corner = lambda x: x[:, *np.triu_indices(x.shape[1])]
    flat = lambda x: x.reshape(len(x), -1)
    parts = [corner(product(w, w)), corner(product(teacher, teacher)), flat(product(w, teacher))]
    return np.concatenate([*parts, flat(heads), b], axis=1)
