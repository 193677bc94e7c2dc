"""What symmetries conserve under flow, and what exactly is left of it in finite steps."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, compiled
from validation.measure.gaps import draw_gaps, gaps, generator, judge_gaps

import learndyn as ld
from learndyn import flow
from learndyn.claims import Claim

SOURCE = "Kunin et al. 2021, Neural mechanics; Du, Hu & Lee 2018 for layers"
D, HIDDEN, SAMPLES, POINTS = 3, 4, 7, 4
"""Dimensions that differ, so that no axis of a layer passes for another; more samples than inputs,
so that gradients have full rank; and how many points are tried of each kind of network."""


class Kind(NamedTuple):
    """A kind of network: how it is built, the shapes of its layers, and their rates."""

    build: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    lr: tuple[float, ...]


KINDS = {
    "neuron": Kind(flow.LinearNeuron, ((), (D,)), (0.3, 2.0)),
    "diagonal": Kind(flow.DiagonalNetwork, ((D,), (D,)), (0.5, 1.7)),
    "linear": Kind(
        lambda *w: flow.LinearNetwork(w),
        ((HIDDEN, D), (HIDDEN, HIDDEN), (2, HIDDEN)),
        (0.4, 1.5, 0.8),
    ),
    "modular": Kind(flow.ModularAddition, ((HIDDEN, D),) * 3, (0.6, 1.3, 0.9)),
    "square": Kind(
        lambda w, v: ld.TwoLayer(w, v, None, jnp.square), ((HIDDEN, D), (HIDDEN,)), (0.3, 1.6)
    ),
    "relu": Kind(
        lambda w, v: ld.TwoLayer(w, v, None, jax.nn.relu), ((HIDDEN, D), (HIDDEN,)), (0.3, 1.6)
    ),
}

Layers = Sequence[jax.Array]


def points(kind: Kind, rng: np.random.Generator) -> tuple[list[jax.Array], flow.Data]:
    """Random layers, each (points, ...), and random data."""
    layers = [jnp.asarray(0.7 * rng.standard_normal((POINTS, *shape))) for shape in kind.shapes]
    if kind.build is flow.ModularAddition:
        x = rng.standard_normal(D)
        x -= x.mean()
        # Slopes grow with the third power of the template: a long one lets descent diverge.
        return layers, flow.modular_data(x / np.linalg.norm(x))
    outputs = (2,) if len(kind.shapes) == 3 else ()
    y = rng.standard_normal((SAMPLES, *outputs))
    return layers, flow.Data(rng.standard_normal((SAMPLES, D)), y)


def gradient(kind: Kind, layers: Layers, data: flow.Data) -> Layers:
    """The gradient of half the mean squared error, summed over outputs."""

    def loss(layers: Layers) -> jax.Array:
        off = jax.vmap(kind.build(*layers))(data.x) - data.y
        return jnp.sum(off**2) / len(data.x) / 2

    return jax.grad(loss)(layers)


def quantity(kind: Kind, layers: Layers, lr: Any) -> jax.Array:
    """What the library says is conserved, in one array."""
    found = flow.conserved(kind.build(*layers), lr=lr)
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(found)])


def size(kind: Kind, layers: Layers) -> jax.Array:
    """A bound on the terms of the conserved quantity: its rounding is 1e-16 of this."""
    return sum(jnp.sum(w**2) / lr for w, lr in zip(layers, kind.lr, strict=True))


def stacked(model: Any, kind: Kind) -> Layers:
    """The layers of a run's models."""
    return jax.tree.leaves(model)[: len(kind.shapes)]


def of_all(one: Callable, rng: np.random.Generator, names: Sequence[str]) -> xr.Dataset:
    """one(kind, layers, data) -> theory's and control's gap, at points of all kinds of network."""
    cases, found = [], []
    for name in names:
        layers, data = points(KINDS[name], rng)
        run = jax.vmap(lambda layers, data, kind=KINDS[name]: one(kind, layers, data), (0, None))
        found.append(np.transpose(compiled(run, FOR_CHAINS)(layers, data)))
        cases += [f"{name} {point + 1}" for point in range(POINTS)]
    return gaps(cases, *np.concatenate(found).T)


IDENTITY_MARGIN = 1e-14
"""Rounding leaves some 1e-16 of the terms that cancel."""


def test_identity(lab: Lab) -> None:
    claim = Claim(
        id="flow-conserved-identity",
        family="flow",
        statement="What each network conserves does not change along the gradient, at any point",
        source=SOURCE,
        setting=f"{POINTS} random points of each of {len(KINDS)} kinds of network, unequal rates",
        rule=f"Every entry of dh/dt along -lr dL/dθ, h from `conserved`, is below "
        f"{IDENTITY_MARGIN:g} of the sizes of all its terms.",
        control="h with the rates forgotten (all 1).",
    )

    def one(kind: Kind, layers: Layers, data: flow.Data) -> list[jax.Array]:
        slopes = gradient(kind, layers, data)
        moves = [-lr * g for lr, g in zip(kind.lr, slopes, strict=True)]
        changes = lambda lr: jax.jvp(lambda w: quantity(kind, w, lr), (layers,), (moves,))[1]
        terms = [
            2 * jnp.sum(jnp.abs(w * move)) / lr
            for w, move, lr in zip(layers, moves, kind.lr, strict=True)
        ]
        return [jnp.abs(changes(lr)).max() / sum(terms) for lr in (list(kind.lr), 1.0)]

    measure = lambda: of_all(one, generator(lab.key(claim.id)), list(KINDS))
    judge = judge_gaps(IDENTITY_MARGIN, "Change of h over its terms")
    lab.settle(claim, measure, judge, draw_gaps(IDENTITY_MARGIN, "|dh/dt| over its terms"))


RTOL = 1e-8
DRIFT_MARGIN = 100 * RTOL
"""The tolerance bounds the error of one step, and those of all steps add up: hence a hundred. What
adds up in the run of validation/RESULTS.md is less than one tolerance."""


def test_drift(lab: Lab) -> None:
    lab.skip_in_quick()
    # The neuron's flow is compared with its closed form; that of ReLU slides along kinks.
    names = [name for name in KINDS if name not in ("neuron", "relu")]
    claim = Claim(
        id="flow-conserved-drift",
        family="flow",
        statement="Along the flow conserved quantities drift by less than a hundred tolerances",
        source=SOURCE,
        setting=f"{POINTS} random starts of each of {len(names)} kinds of network, unequal rates, "
        f"rtol = {RTOL:g}, t = 0 to 5",
        rule=f"No entry of h of `conserved` moves by more than {DRIFT_MARGIN:g} of the size of its "
        "terms.",
        control="h with the rates forgotten (all 1).",
    )

    def one(kind: Kind, layers: Layers, data: flow.Data) -> list[jax.Array]:
        ts, lr = jnp.linspace(0.0, 5.0, 11), list(kind.lr)
        run = flow.gradient_flow(kind.build(*layers), data, ts, lr=lr, rtol=RTOL)
        rows = stacked(run.model, kind)
        return [drift(kind, rows, lr) for lr in (lr, 1.0)]

    measure = lambda: of_all(one, generator(lab.key(claim.id)), names)
    judge = judge_gaps(DRIFT_MARGIN, "Drift of h over its terms")
    lab.settle(claim, measure, judge, draw_gaps(DRIFT_MARGIN, "drift of h over its terms"))


def drift(kind: Kind, rows: Layers, lr: Any) -> jax.Array:
    """The largest change of h along a run, over the size of its terms."""
    h = jax.vmap(lambda layers: quantity(kind, layers, lr))(rows)
    return jnp.abs(h - h[0]).max() / jax.vmap(lambda w: size(kind, w))(rows).max()


STEP_MARGIN = 1e-12
"""Rounding leaves 4e-16 of the terms of h (validation/RESULTS.md), and what a step adds to h is
1e5 times the margin."""

STEPS, STEP, MOMENTUM, DECAY = 10, 0.005, 0.6, 0.01
"""Steps in units of the rates: of 4000 random starts of each network none diverges, and what they
add to h is 3e-7 or more."""


def test_finite_steps(lab: Lab) -> None:
    lab.skip_in_quick()
    claim = Claim(
        id="flow-conserved-steps",
        family="flow",
        statement="In descent with momentum and decay what is conserved changes by exactly known "
        "terms",
        source=f"{SOURCE}; the square of a step, expanded",
        setting=f"{STEPS} steps of {POINTS} starts of each of {len(KINDS)} kinds of network, "
        f"unequal rates, momentum {MOMENTUM}, decay {DECAY}",
        rule="h after a step of `gradient_descent` is that of `after_step`, and (1 - decay)² h - 2 "
        f"(1 - decay) momentum B(θ, lr u) + h(lr u'), within {STEP_MARGIN:g} of its terms; B is "
        "h's bilinear form, u' the velocity after the step.",
        control="(1 - decay)² h: decay alone, as for infinitely small steps.",
    )

    def one(kind: Kind, layers: Layers, data: flow.Data) -> list[jax.Array]:
        lr = [STEP * rate for rate in kind.lr]
        model = kind.build(*layers)
        run = flow.gradient_descent(model, data, STEPS, lr, momentum=MOMENTUM, decay=DECAY)
        rows, pushes = stacked(run.model, kind), stacked(run.velocity, kind)
        before, after = [w[:-1] for w in rows], [w[1:] for w in rows]
        told = jax.vmap(lambda w, u: laws(kind, data, lr, w, u))(before, [u[:-1] for u in pushes])
        h = jax.vmap(lambda w: quantity(kind, w, lr))(after)
        # Sizes are those of the rates without the step's factor.
        scale = jax.vmap(lambda w: size(kind, w) / STEP)(after)[:, None]
        library, formula, control = (jnp.max(jnp.abs(h - one) / scale) for one in told)
        return [jnp.maximum(library, formula), control]

    measure = lambda: of_all(one, generator(lab.key(claim.id)), list(KINDS))
    judge = judge_gaps(STEP_MARGIN, "h after a step over its terms")
    lab.settle(claim, measure, judge, draw_gaps(STEP_MARGIN, "error of h over its terms"))


def laws(kind: Kind, data: flow.Data, lr: Sequence[float], w: Layers, u: Layers) -> list[jax.Array]:
    """h after the next step: by the library, by the expanded square, and by decay alone."""
    options = {"momentum": MOMENTUM, "decay": DECAY, "velocity": kind.build(*u)}
    told = flow.after_step(kind.build(*w), data, lr=list(lr), **options)
    library = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(told)])
    h = lambda layers: quantity(kind, layers, list(lr))
    scaled = [rate * one for rate, one in zip(lr, u, strict=True)]
    following = [
        rate * (MOMENTUM * one + g)
        for rate, one, g in zip(lr, u, gradient(kind, w, data), strict=True)
    ]
    # Polarisation: 4 B(a, b) = h(a + b) - h(a - b)
    plus, minus = ([a + sign * b for a, b in zip(w, scaled, strict=True)] for sign in (1, -1))
    bilinear = (h(plus) - h(minus)) / 4
    kept = (1 - DECAY) ** 2 * h(w)
    return [library, kept - 2 * (1 - DECAY) * MOMENTUM * bilinear + h(following), kept]
