"""Learning once more, in plain NumPy: SGD on weights, which shares nothing with the library.

A step is written for any number of runs side by side. The vectors may be all n components of the
weights, or their coordinates in an orthonormal frame that holds all vectors of a few steps; then n
is a number like any other, and at n = 1e8 a step is that of the limit n -> infinity.
"""

import dataclasses

import numpy as np
from scipy.special import erf, ndtri
from scipy.stats import qmc

LEAK = 0.3
"""Slope of the leaky unit."""

ACTIVATIONS = {
    "erf": (lambda x: erf(x / 2**0.5), lambda x: (2 / np.pi) ** 0.5 * np.exp(-(x**2) / 2)),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: 1.0 * (x > 0)),
    "leaky": (lambda x: np.where(x > 0, x, LEAK * x), lambda x: np.where(x > 0, 1.0, LEAK)),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "linear": (lambda x: x, np.ones_like),
    "quadratic": (lambda x: x**2, lambda x: 2 * x),
    "own": (lambda x: np.sin(x) + 0.2 * x, lambda x: np.cos(x) + 0.2),
    "sign": (lambda x: np.where(x >= 0, 1.0, -1.0), None),
}
"""Each unit's output and its derivative."""

SLOPES = {
    "squared": lambda phi, y: phi - y,
    "logistic": lambda phi, y: -y / (1 + np.exp(y * phi)),
    "hinge": lambda phi, y: -y * (y * phi < 1),
    "perceptron": lambda phi, y: -y * (y * phi < 0),
    "own": lambda phi, y: np.tanh(phi - y),
}
"""The derivative of each loss with respect to the output."""

CLASSIFICATION = ("logistic", "hinge", "perceptron")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A problem and a rule, by the names of the tables here; numbers of what is switched on."""

    student: str = "erf"
    teacher: str = "erf"
    loss: str = "squared"
    noise: float = 0.0
    biases: str = "none"
    second: bool = False
    batch: int = 1
    decay: float = 0.0
    momentum: str = "none"
    rates: str = "constant"
    rule: str = "sgd"
    spherical: bool = False
    groups: bool = False

    lr: float = 0.7
    lr_second: float = 0.5
    lr_bias: float = 1.1
    beta: float = 0.3
    gamma: float = 2.0
    flip: float = 0.15
    feedback: tuple = (1.0, -0.7)
    limit: float = 0.5
    keep: float = 0.7
    std: float = 0.5
    shake: float = 0.4

    @property
    def factors(self) -> tuple:
        """Rates of the two units over the common ones."""
        return (1.0, 0.6) if self.rates == "per unit" else (1.0, 1.0)

    def rates_at(self, alpha: float) -> tuple:
        """lr, lr_second and lr_bias, each (2,), at a time; those that are not trained are 0."""
        falls = (1.0, 1.0, 1.0)
        if self.rates == "schedule":
            falls = (1 / (1 + 4 * alpha), 1 / (1 + 6 * alpha), 1 / (1 + 2 * alpha))
        sizes = (self.lr, self.second * self.lr_second, (self.biases == "trained") * self.lr_bias)
        factors = np.array(self.factors)
        return tuple(size * fall * factors for size, fall in zip(sizes, falls, strict=True))

    @property
    def eigenvalues(self) -> np.ndarray:
        """They have the mean 0.9, or 1 for rules that read |x|^2/n, which theories take to be 1."""
        if not self.groups:
            return np.array([1.0])
        reads_size = self.rule in ("clipped", "clipped batch", "local")
        return np.array([0.4, 1.2]) if reads_size else np.array([0.3, 1.1])

    @property
    def shares(self) -> np.ndarray:
        return np.array([0.25, 0.75]) if self.groups else np.array([1.0])


@dataclasses.dataclass
class State:
    """Parameters of the student (runs first), their velocities, and the teacher's."""

    w: np.ndarray
    v: np.ndarray
    b: np.ndarray
    u_w: np.ndarray
    u_v: np.ndarray
    u_b: np.ndarray
    teacher: np.ndarray
    v_teacher: np.ndarray
    b_teacher: np.ndarray


@dataclasses.dataclass
class Batch:
    """Inputs (runs, batch, components); noise on them for the student, N(0, 1) alike; and numbers
    (runs, batch, any) that are N(0, 1): for label noise, for flips, for the rule."""

    x: np.ndarray
    shaken: np.ndarray | None
    numbers: np.ndarray


NUMBERS = 4
"""N(0, 1) numbers of each sample: label noise, flip, one for each of the two units."""


CURVED = 0.4
"""How the multi-index teacher's noise is skewed, so that its mean is not its value at 0."""


def of_two_fields(rho: np.ndarray) -> np.ndarray:
    """What the multi-index teacher makes of its fields."""
    return np.tanh(rho[..., 0] * rho[..., 1]) + 0.5 * rho[..., 0]


def label(setting: Setting, state: State, rho: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    zeta, turn = numbers[..., 0], numbers[..., 1]
    if setting.teacher == "multi-index":
        y = of_two_fields(rho) + 0.3 * zeta + CURVED * zeta**2
    else:
        g = ACTIVATIONS["sign" if setting.teacher == "flipped" else setting.teacher][0]
        y = (state.v_teacher * g(rho + state.b_teacher)).sum(-1) + setting.noise * zeta
    if setting.loss in CLASSIFICATION:
        y = np.where(y >= 0, 1.0, -1.0)
        if setting.teacher == "flipped":
            y = np.where(turn < ndtri(setting.flip), -y, y)
    return y


def modulation(
    setting: Setting,
    state: State,
    lam: np.ndarray,
    y: np.ndarray,
    numbers: np.ndarray,
    size: np.ndarray,
    norms: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """F and H of each sample, (runs, batch, k). size: |x|^2/n; norms: Q_ii, (runs, 1, k)."""
    g, dg = (f(lam + state.b[:, None]) for f in ACTIVATIONS[setting.student])
    v, xi = state.v[:, None], numbers[..., 2:]
    slope_of = SLOPES["perceptron" if setting.rule == "perceptron" else setting.loss]
    if setting.rule == "dropout":
        v = v * (xi < ndtri(setting.keep))
    phi = (v * g).sum(-1)
    slope = slope_of(phi, y)[..., None]
    c, h = v * dg * slope, g * slope
    if setting.rule == "feedback":
        c = np.array(setting.feedback) * dg * slope
    elif setting.rule == "dropout":
        h = h * (xi < ndtri(setting.keep))
    elif setting.rule == "node":
        c = xi * (xi * c).sum(-1, keepdims=True)
    elif setting.rule == "clipped":
        norm = np.linalg.norm(c, axis=-1) * size**0.5
        c = c * clipped(setting, norm)[..., None]
    elif setting.rule == "clipped batch":
        norm = ((c**2).sum(-1) * size).sum(1) ** 0.5 / setting.batch
        c = c * clipped(setting, norm)[:, None, None]
    elif setting.rule == "local":
        c = c * size[..., None] * (1 + setting.shake * xi[..., :1]) + setting.shake * xi[..., :1]
        h = h + setting.shake * xi[..., :1] ** 2
    elif setting.rule == "reader":
        c = c / (0.5 + norms)
    return c, h


def clipped(setting: Setting, norm: np.ndarray) -> np.ndarray:
    """What brings gradients of these norms to the limit. Some losses have gradients of just 0."""
    return np.minimum(1, setting.limit / np.maximum(norm, 1e-300))


def step(setting: Setting, state: State, batch: Batch, alpha: float, n: float) -> State:
    """One step of SGD, as papers write it."""
    x = batch.x if batch.shaken is None else batch.x + setting.std * batch.shaken
    # Fields of the student, and of the teacher on clean inputs
    lam = np.einsum("rkp,rbp->rbk", state.w, x) / n**0.5
    rho = np.einsum("rkp,rbp->rbk", state.teacher, batch.x) / n**0.5
    y = label(setting, state, rho, batch.numbers)
    size = (x**2).sum(-1) / n
    norms = (state.w**2).sum(-1)[:, None] / n
    c, h = modulation(setting, state, lam, y, batch.numbers, size, norms)
    # Gradients, averaged over the batch
    g_w = np.einsum("rbk,rbp->rkp", c, x) / setting.batch / n**0.5 + setting.decay / n * state.w
    g_v, g_b = h.mean(1) / n, c.mean(1) / n
    lr, lr_v, lr_b = setting.rates_at(alpha)
    beta = {"none": 0.0, "constant": setting.beta, "slow": 1 - setting.gamma / n}[setting.momentum]
    scale = setting.gamma / n if setting.momentum == "slow" else 1.0
    u_w, u_v, u_b = beta * state.u_w + g_w, beta * state.u_v + g_v, beta * state.u_b + g_b
    w = state.w - scale * lr[:, None] * u_w
    if setting.spherical:
        w = w / ((w**2).sum(-1, keepdims=True) / n) ** 0.5
    v, b = state.v - scale * lr_v * u_v, state.b - scale * lr_b * u_b
    return dataclasses.replace(state, w=w, v=v, b=b, u_w=u_w, u_v=u_v, u_b=u_b)


# Weights with given overlaps


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a comparison begins. gram: (groups, d, d) products over n, in each group, of the
    student's vectors, their velocities (times gamma) and the teacher's."""

    gram: np.ndarray
    v: np.ndarray
    v_teacher: np.ndarray
    b: np.ndarray
    b_teacher: np.ndarray
    velocity_v: np.ndarray
    velocity_b: np.ndarray


K, M = 2, 2
UNITS, VELOCITIES, TEACHERS = slice(0, K), slice(K, 2 * K), slice(2 * K, 2 * K + M)


def start_of(setting: Setting) -> Start:
    """A start without symmetry, at which every term of the equations counts."""
    rng = np.random.default_rng(7)
    grams = []
    for share in setting.shares:
        vectors = rng.normal(size=(2 * K + M, 9)) / 3
        vectors[VELOCITIES] += 0.4 * vectors[UNITS] - 0.3 * vectors[TEACHERS]
        vectors[UNITS] += 0.4 * vectors[TEACHERS]
        grams.append(share * vectors @ vectors.T)
    gram = np.array(grams)
    if setting.spherical:
        length = np.ones(2 * K + M)
        length[UNITS] = np.diag(gram.sum(0))[UNITS] ** 0.5
        gram = gram / np.outer(length, length)
    has = setting.biases != "none"
    takes = has and setting.teacher != "multi-index"
    moves_v, moves_b = setting.second, setting.biases == "trained"
    return Start(
        gram,
        v=np.array([0.9, -0.6]),
        v_teacher=np.array([1.0, 0.7]),
        b=has * np.array([0.3, -0.4]),
        b_teacher=takes * np.array([0.5, -0.2]),
        velocity_v=moves_v * np.array([0.3, -0.2]),
        velocity_b=moves_b * np.array([-0.25, 0.4]),
    )


def state_of(setting: Setting, start: Start, vectors: np.ndarray, runs: int, moving: bool) -> State:
    """Every run's own copy. moving: with the velocities of slow momentum; else at rest."""
    spread = lambda x: np.broadcast_to(x, (runs, *x.shape))
    w, u, teacher = (vectors[part] for part in (UNITS, VELOCITIES, TEACHERS))
    speed = 1 / setting.gamma if moving else 0.0
    return State(
        spread(w),
        spread(start.v),
        spread(start.b),
        spread(u) * speed,
        spread(start.velocity_v) * speed,
        spread(start.velocity_b) * speed,
        spread(teacher),
        start.v_teacher,
        start.b_teacher,
    )


# The limit: what one step does on average


LARGE = 1e8
"""Input dimension at which a step misses the limit by 1e-8, and rounding adds as much."""

SETS, POINTS = 64, 1024
"""Independent sets of Sobol points, whose scatter is the standard error, and points in each."""

WARM, COUNTED = 14, 4
"""Steps after which constant momentum with beta = 0.3 has forgotten its start to 1e-7, and steps
whose mean is taken then."""


def limit_step(
    setting: Setting, start: Start, alpha: float, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The state of `coordinates` at the start, and its mean change per unit of time in each of
    `SETS` sets of samples, (sets, any)."""
    steps = WARM + COUNTED if setting.momentum == "constant" else 1
    means = []
    for i in range(SETS):
        rng = np.random.default_rng((seed, i))
        state, width = _in_frame(setting, start, steps)
        first = before = coordinates(setting, state)
        for t in range(steps):
            if t == WARM:
                before = coordinates(setting, state)
            batch = _limit_batch(setting, width, t, rng, steps == 1)
            state = step(setting, state, batch, alpha, LARGE)
        after, counted = coordinates(setting, state), COUNTED if steps > 1 else 1
        means.append({x: LARGE / counted * (after[x] - before[x]).mean(0) for x in after})
    stacked = {name: np.stack([mean[name] for mean in means]) for name in first}
    return {name: rows[0] for name, rows in first.items()}, stacked


def limit_covariance(setting: Setting, start: Start, alpha: float, seed: int) -> np.ndarray:
    """(sets, p, p) covariances of a step's change of all coordinates, times n**2, without
    momentum."""
    found = []
    for i in range(SETS):
        rng = np.random.default_rng((seed, i))
        state, width = _in_frame(setting, start, 1)
        batch = _limit_batch(setting, width, 0, rng, by_sobol=True)
        before = coordinates(setting, state)
        after = coordinates(setting, step(setting, state, batch, alpha, LARGE))
        changes = LARGE * np.concatenate([after[x] - before[x] for x in before], axis=1)
        found.append(np.cov(changes, rowvar=False))
    return np.stack(found)


def _in_frame(setting: Setting, start: Start, steps: int) -> tuple[State, int]:
    """Vectors in an orthonormal frame, with room for what inputs have outside of it."""
    d = len(start.gram[0])
    width = d + steps * setting.batch * (2 if setting.rule == "input noise" else 1)
    vectors = np.zeros((d, len(start.gram), width))
    for group, gram in enumerate(start.gram):
        vectors[:, group, :d] = np.linalg.cholesky(gram) * LARGE**0.5
    moving = setting.momentum == "slow"
    return state_of(setting, start, vectors.reshape(d, -1), POINTS, moving), width


def _limit_batch(
    setting: Setting, width: int, t: int, rng: np.random.Generator, by_sobol: bool
) -> Batch:
    """Inputs of one step: N(0, s) along the frame, and of length sqrt(s share n) outside."""
    d, groups, size = 2 * K + M, len(setting.shares), setting.batch
    noisy = setting.rule == "input noise"
    wanted = size * (groups * d * (1 + noisy) + NUMBERS)
    if by_sobol:
        uniform = qmc.Sobol(wanted, rng=rng).random(POINTS)
        numbers = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
    else:
        numbers = rng.normal(size=(POINTS, wanted))
    numbers = numbers.reshape(POINTS, size, -1)
    along = numbers[..., NUMBERS:].reshape(POINTS, size, 1 + noisy, groups, d)
    vectors = np.zeros((POINTS, size, 1 + noisy, groups, width))
    vectors[..., :d] = along
    for b in range(size):
        for kind in range(1 + noisy):
            place = d + (t * size + b) * (1 + noisy) + kind
            vectors[:, b, kind, :, place] = (setting.shares * LARGE) ** 0.5
    vectors *= setting.eigenvalues[:, None] ** 0.5
    flat = vectors.reshape(POINTS, size, 1 + noisy, -1)
    return Batch(flat[:, :, 0], flat[:, :, 1] if noisy else None, numbers[..., :NUMBERS])


def coordinates(setting: Setting, state: State) -> dict[str, np.ndarray]:
    """(runs, any) what a theory follows in each group of directions, and v and b, by name; S, U, V,
    velocity_v and velocity_b where momentum is slow."""
    by_group = lambda x: x.reshape(*x.shape[:-1], len(setting.shares), -1)
    product = lambda a, b: np.einsum("rigp,rjgp->rgij", a, b) / LARGE
    corner = lambda x: x[:, :, *np.triu_indices(K)]
    w, u, teacher = by_group(state.w), setting.gamma * by_group(state.u_w), by_group(state.teacher)
    found = {"Q": corner(product(w, w)), "R": product(w, teacher)}
    moving = {"v": setting.second, "b": setting.biases == "trained"}
    found |= {name: getattr(state, name) for name, moves in moving.items() if moves}
    if setting.momentum == "slow":
        found |= {"S": product(w, u), "U": corner(product(u, u)), "V": product(u, teacher)}
        speeds = {"v": state.u_v, "b": state.u_b}
        found |= {f"velocity_{x}": setting.gamma * speeds[x] for x in moving if moving[x]}
    return {name: x.reshape(len(state.w), -1) for name, x in found.items()}


def error_at(setting: Setting, start: Start, seed: int) -> np.ndarray:
    """(sets,) estimates of eg at the start: of clean inputs and labels."""
    kept = [0, 1, 4, 5]  # units and teachers
    c = np.tensordot(setting.eigenvalues, start.gram, 1)[np.ix_(kept, kept)]
    root, v = np.linalg.cholesky(c), start.v * (setting.keep if setting.rule == "dropout" else 1.0)
    found = []
    for i in range(SETS):
        uniform = qmc.Sobol(len(c), rng=np.random.default_rng((seed, i))).random(POINTS)
        fields = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12)) @ root.T
        lam, rho = fields[:, :K], fields[:, K:]
        phi = ACTIVATIONS[setting.student][0](lam + start.b) @ v
        if setting.teacher == "multi-index":
            right = of_two_fields(rho) + CURVED
        else:
            g = ACTIVATIONS["sign" if setting.teacher == "flipped" else setting.teacher][0]
            right = g(rho + start.b_teacher) @ start.v_teacher
        is_sign = setting.loss in CLASSIFICATION
        errors = (phi >= 0) != (right >= 0) if is_sign else (phi - right) ** 2 / 2
        found.append(errors.mean())
    return np.array(found)


# Finite n: the law after a few steps


def finite_runs(
    setting: Setting, start: Start, n: int, steps: int, runs: int, seed: int
) -> np.ndarray:
    """(runs, p) the overlaps Q (upper triangle), R, v, b after a few steps from rest at size n."""
    rng = np.random.default_rng(seed)
    scale = variances(setting, n) ** 0.5
    state = state_of(setting, start, weights_of(setting, start, n), runs, moving=False)
    for t in range(steps):
        shape = (runs, setting.batch, n)
        x = scale * rng.normal(size=shape)
        shaken = rng.normal(size=shape) if setting.rule == "input noise" else None
        numbers = rng.normal(size=(runs, setting.batch, NUMBERS))
        state = step(setting, state, Batch(x, shaken, numbers), t / n, n)
    w, teacher = state.w, state.teacher
    q, r = w @ w.swapaxes(1, 2) / n, w @ teacher.swapaxes(1, 2) / n
    parts = [q[:, *np.triu_indices(K)], r.reshape(runs, -1), state.v, state.b]
    return np.concatenate(parts, axis=1)


def variances(setting: Setting, n: int) -> np.ndarray:
    """(n,) of the inputs' components."""
    counts = np.round(setting.shares * n).astype(int)
    return np.repeat(setting.eigenvalues, counts)


def weights_of(setting: Setting, start: Start, n: int) -> np.ndarray:
    """(d, n) weights with exactly the overlaps of the start; velocities are at rest."""
    rng, kept = np.random.default_rng(3), [0, 1, 4, 5]  # units and teachers
    parts = []
    for share, gram in zip(setting.shares, start.gram, strict=True):
        count = round(share * n)
        basis = np.linalg.qr(rng.normal(size=(count, count)))[0][: len(kept)]
        part = np.zeros((2 * K + M, count))
        part[kept] = n**0.5 * np.linalg.cholesky(gram[np.ix_(kept, kept)]) @ basis
        parts.append(part)
    return np.concatenate(parts, axis=1)


def one_vector(start: Start) -> np.ndarray:
    """The state before the first of `finite_runs`."""
    gram = start.gram.sum(0)
    q, r = gram[UNITS, UNITS], gram[UNITS, TEACHERS]
    return np.concatenate([q[np.triu_indices(K)], r.ravel(), start.v, start.b])


def law_difference(ours: np.ndarray, theirs: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """z-scores of means and products of bounded functions of two samples' coordinates."""
    scale = np.abs(theirs - centre).mean(axis=0)
    moves = scale > 1e-12
    squash = lambda x: np.tanh((x - centre)[:, moves] / scale[moves])
    first, second = np.triu_indices(int(moves.sum()))

    def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bounded = squash(x)
        all_ = np.concatenate([bounded, bounded[:, first] * bounded[:, second]], axis=1)
        return all_.mean(0), all_.var(0) / len(all_)

    (a, a_error), (b, b_error) = statistics(ours), statistics(theirs)
    still = np.abs(ours - centre)[:, ~moves].max(initial=0.0)
    assert still < 1e-9, "what does not move in NumPy moves in the library"
    return (a - b) / np.sqrt(a_error + b_error)


def t_limit(comparisons: int, false_alarm: float = 1e-3, sets: int = SETS) -> float:
    """What no |t| of so many comparisons exceeds, but with probability false_alarm."""
    from scipy.stats import t

    return float(-t.ppf(false_alarm / comparisons / 2, sets - 1))
