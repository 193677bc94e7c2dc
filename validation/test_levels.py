"""The levels of description: the overlap chain has the law of SGD on weights, at every n."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from validation.lab import Lab
from validation.lab.compiling import FOR_CHAINS, FOR_SGD, ensemble
from validation.measure.ensembles import chain_ensemble
from validation.measure.laws import FALSE_ALARM, draw_laws, judge_laws
from validation.measure.sharing import LANES, whole_blocks

import learndyn as ld
from learndyn.claims import Claim
from learndyn.rules import AbstractRule, FeedbackAlignment

CONTROL = "spherical inputs"
"""The control's inputs: |x|² is exactly n, where that of Gaussian ones scatters by √(2 n)."""

OVERLAPS = ([[0.5, 0.1], [0.1, 0.4]], [[0.2, 0.0], [0.1, 0.3]], [[1.0, 0.0], [0.0, 1.0]])
"""A start without any symmetry, at which every term of the equations counts."""
TS = np.array([0.0, 0.5, 1.0, 2.0])
"""Multiples of 1/2, at which alpha n is a whole number of steps for every N below."""


class Spherical(ld.Gaussian):
    """Gaussian inputs, brought to |x|^2 = n where `fixed` is 1: a fault of size 1/n, the control's.

    A number, so that right and wrong inputs share a program.
    """

    gaussian_fields: ClassVar[bool] = True
    white: ClassVar[bool] = True
    fixed: Float[Array, ""]

    def sample(
        self, key: PRNGKeyArray, count: int, n: int, dtype: jnp.dtype
    ) -> Float[Array, "count n"]:
        x = super().sample(key, count, n, dtype)
        return x * jnp.sqrt(n / jnp.sum(x * x, axis=1, keepdims=True)) ** self.fixed


@dataclasses.dataclass(frozen=True)
class Setting:
    """A problem and a rule at one N; runs: in standard."""

    activation: ld.Erf | ld.ReLU | ld.Linear
    rule: AbstractRule
    n: int
    runs: int


SETTINGS = {
    "erf-10": Setting(ld.Erf(), ld.SGD(1.0, 0.5), 10, 8192),
    "erf-100": Setting(ld.Erf(), ld.SGD(1.0, 0.5), 100, 20_480),
    "relu-50": Setting(ld.ReLU(), ld.SGD(1.0, 0.5), 50, 24_576),
    "relu-100": Setting(ld.ReLU(), ld.SGD(1.0, 0.5), 100, 20_480),
    "erf-batch-30": Setting(ld.Erf(), ld.SGD(1.5, 0.5, batch_size=4), 30, 8192),
    "relu-30": Setting(
        ld.ReLU(), ld.SGD(0.5, weight_decay=0.05, batch_size=4, momentum=0.5), 30, 28_672
    ),
    "linear-10": Setting(ld.Linear(), ld.SGD(0.3, 0.2, momentum=ld.SlowMomentum(2.0)), 10, 8192),
    "feedback-10": Setting(
        ld.Erf(), FeedbackAlignment([1.0, -0.7], lr=1.0, lr_second=0.5), 10, 8192
    ),
    "linear-30": Setting(ld.Linear(), ld.SGD(0.5, weight_decay=0.1), 30, 8192),
}
IN_QUICK = ("erf-10",)
IN_STANDARD = (*IN_QUICK, "relu-50", "relu-30", "linear-10", "feedback-10")
"""In each the control is beyond its limit by six standard errors or more: with less, a run in a
hundred has a control that seems likely to be missed."""


@pytest.mark.parametrize("name", SETTINGS)
def test_law(lab: Lab, name: str) -> None:
    lab.skip(name not in lab.pick(IN_QUICK, IN_STANDARD, SETTINGS))
    setting = SETTINGS[name]
    rule = setting.rule
    runs = whole_blocks(setting.runs * lab.pick(1, 1, 4))
    claim = Claim(
        id=f"law-{name}",
        family="levels",
        statement=f"The overlap chain has the law of SGD on weights at n = {setting.n} ({name})",
        source="Gaussian inputs: fields and inner products depend on the overlaps alone",
        setting=f"{type(setting.activation).__name__}, {type(rule).__name__}, k = m = 2, "
        f"lr = {float(rule.lr):g}, batch {rule.batch_size}, noise 0.2, alpha <= {TS[-1]:g}, {runs} "
        "runs on each side from the same overlaps",
        rule="Of the z scores between the two samples, of every coordinate of Q, R, v and eg at "
        "every time and of all products of two, none is beyond the limit that equal laws exceed "
        f"with probability {FALSE_ALARM}.",
        control="SGD on inputs of length exactly √n: off by 1/n in the second moments.",
    )

    def measure() -> xr.Dataset:
        problem = ld.Problem(setting.activation, setting.activation, noise=0.2)
        layers = {} if rule.lr_second is None else {"v": [0.8, 0.6]}
        start = ld.Overlaps(*OVERLAPS, **layers)
        key = lab.key(claim.id)
        keys = jax.random.split(key, 3)
        chain = chain_ensemble(
            problem,
            rule,
            start,
            TS,
            n=setting.n,
            key=keys[0],
            runs=runs,
            fill_times=True,
            xla=FOR_CHAINS,
        )
        found = {"chain": joint(chain)}
        for side, fixed, one in zip(("weights", "wrong"), (0.0, 1.0), keys[1:], strict=True):
            inputs = Spherical(jnp.asarray(fixed))
            results = on_weights(
                problem, rule, start, inputs, jax.random.split(one, runs), n=setting.n
            )
            found[side] = joint({name: np.asarray(x) for name, x in results.items()})
        return xr.Dataset({side: (("seed", "p"), x) for side, x in found.items()})

    judge, draw = (functools.partial(f, control=CONTROL) for f in (judge_laws, draw_laws))
    lab.settle(claim, measure, judge, draw)


@functools.partial(ensemble, xla=FOR_SGD, static_argnames="n")
def on_weights(
    problem: ld.Problem,
    rule: AbstractRule,
    start: ld.Overlaps,
    inputs: ld.Gaussian,
    keys: Array,
    *,
    n: int,
) -> dict[str, Array]:
    """Overlaps and eg of runs of SGD from weights with exactly the overlaps `start`."""

    def one(key: Array) -> dict[str, Array]:
        weights_key, run_key = jax.random.split(key)
        weights = ld.weights_from_overlaps(weights_key, start, n=n)
        run = ld.simulate_sgd(problem, rule, weights, jnp.asarray(TS), key=run_key, inputs=inputs)
        return {"Q": run.Q, "R": run.R, "v": run.v, "eg": run.eg}

    return jax.lax.map(one, keys, batch_size=LANES)


def joint(runs: dict[str, np.ndarray]) -> np.ndarray:
    """(runs, coordinates): Q, R, v and eg at all times but the first."""
    parts = (runs[name] for name in ("Q", "R", "v", "eg"))
    return np.concatenate([x[:, 1:].reshape(len(x), -1) for x in parts], axis=1)
