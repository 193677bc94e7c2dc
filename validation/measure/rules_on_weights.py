"""Local rules on weights, written out once more in NumPy: what the library's rules are held to.

The start is one set of weights with exactly the overlaps asked for. That is enough, since the
inputs' law is the same in all directions. Nothing of the library is used.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import erf

Array = np.ndarray


class Batch(NamedTuple):
    """What a rule sees of a step in all runs: fields (runs, B, k), labels (runs, B), |x|^2/n
    (runs, B) and the second layer (runs, k)."""

    lam: Array
    y: Array
    size: Array
    v: Array


Rule = Callable[[np.random.Generator, "Setting", Batch], tuple[Array, Array]]
"""The F and H of each sample, (runs, B, k)."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One experiment. units: "erf" or "linear". signs: whether labels are those of one field,
    turned with probability `flip`; else they are the sum of the teacher's units, plus noise."""

    rule: Rule
    lr: float
    lr_second: float = 0.0
    batch: int = 1
    units: str = "erf"
    signs: bool = False
    flip: float = 0.0
    noise: float = 0.0
    input_noise: float = 0.0
    spherical: bool = False

    def unit(self, lam: Array) -> tuple[Array, Array]:
        """g and g' at these fields."""
        if self.units == "linear":
            return lam, np.ones_like(lam)
        return erf(lam / 2**0.5), (2 / np.pi) ** 0.5 * np.exp(-(lam**2) / 2)


def run(
    setting: Setting,
    Q: Array,
    R: Array,
    v: Array,
    ts: Array,
    *,
    n: int,
    runs: int,
    rng: np.random.Generator,
) -> Array:
    """(runs, coordinates): Q, R and v at all times, of runs from these overlaps with T = 1."""
    k, m = R.shape
    w = np.zeros((runs, k, n))
    w[:, :, :m] = n**0.5 * R
    w[:, :, m : m + k] = n**0.5 * np.linalg.cholesky(Q - R @ R.T)
    v, found, done = np.tile(v, (runs, 1)), [], 0
    for steps in np.round(np.asarray(ts) * n).astype(int):
        for _ in range(done, steps):
            w, v = _step(setting, w, v, m, rng)
        done = steps
        found.append(_coordinates(w, v, m))
    return np.concatenate(found, axis=1)


def _step(
    setting: Setting, w: Array, v: Array, m: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    runs, _, n = w.shape
    x = rng.standard_normal((runs, setting.batch, n))
    rho = x[..., :m]
    seen = x
    if setting.input_noise:
        seen = x + setting.input_noise * rng.standard_normal(x.shape)
    lam = seen @ w.transpose(0, 2, 1) / n**0.5
    batch = Batch(lam, _labels(setting, rho, rng), (seen**2).mean(axis=-1), v)
    f, h = setting.rule(rng, setting, batch)
    w = w - setting.lr / n**0.5 / setting.batch * (f.transpose(0, 2, 1) @ seen)
    if setting.spherical:
        w = w * (n / (w**2).sum(axis=-1, keepdims=True)) ** 0.5
    return w, v - setting.lr_second / n * h.mean(axis=1)


def _labels(setting: Setting, rho: Array, rng: np.random.Generator) -> Array:
    if setting.signs:
        turned = rng.random(rho.shape[:2]) < setting.flip
        return np.where(turned, -1.0, 1.0) * np.sign(rho[..., 0])
    clean = setting.unit(rho)[0].sum(axis=-1)
    return clean + setting.noise * rng.standard_normal(clean.shape)


def _coordinates(w: Array, v: Array, m: int) -> Array:
    n = w.shape[2]
    return coordinates(w @ w.transpose(0, 2, 1) / n, w[:, :, :m] / n**0.5, v)


def coordinates(Q: Array, R: Array, v: Array) -> Array:
    """Q without what is there twice, R and v, (runs, coordinates)."""
    i, j = np.triu_indices(Q.shape[-1])
    return np.concatenate([Q[:, i, j], R.reshape(len(R), -1), v], axis=1)


def _output(setting: Setting, batch: Batch) -> tuple[Array, Array, Array]:
    """g, g' and the student's output."""
    g, dg = setting.unit(batch.lam)
    return g, dg, (g * batch.v[:, None]).sum(axis=-1)


def gradient(_: np.random.Generator, setting: Setting, batch: Batch) -> tuple[Array, Array]:
    """SGD with squared loss."""
    g, dg, phi = _output(setting, batch)
    error = (phi - batch.y)[..., None]
    return batch.v[:, None] * dg * error, g * error


def along_slope(slope: Callable[[Array, Array], Array]) -> Rule:
    """The rule v g' slope(phi, y), of Hebb, the perceptron and AdaTron."""

    def rule(_: np.random.Generator, setting: Setting, batch: Batch) -> tuple[Array, Array]:
        g, dg, phi = _output(setting, batch)
        pull = slope(phi, batch.y)[..., None]
        return batch.v[:, None] * dg * pull, g * pull

    return rule


def feedback(weights: tuple[float, ...]) -> Rule:
    """Feedback alignment."""

    def rule(_: np.random.Generator, setting: Setting, batch: Batch) -> tuple[Array, Array]:
        g, dg, phi = _output(setting, batch)
        error = (phi - batch.y)[..., None]
        return np.asarray(weights) * dg * error, g * error

    return rule


def perturbation(signs: bool) -> Rule:
    """Node perturbation in the limit of small ones, by normal numbers or by signs."""

    def rule(rng: np.random.Generator, setting: Setting, batch: Batch) -> tuple[Array, Array]:
        c, h = gradient(rng, setting, batch)
        xi = rng.standard_normal(c.shape)
        xi = np.sign(xi) if signs else xi
        return xi * (xi * c).sum(axis=-1, keepdims=True), h

    return rule


def clipped(limit: float) -> Rule:
    """The gradient of a batch, clipped; a batch of one is a sample."""

    def rule(rng: np.random.Generator, setting: Setting, batch: Batch) -> tuple[Array, Array]:
        c, h = gradient(rng, setting, batch)
        square = ((c**2).sum(axis=-1) * batch.size).sum(axis=-1)
        norm = square**0.5 / setting.batch
        return c * np.minimum(1.0, limit / norm)[:, None, None], h

    return rule


def dropout(keep: float) -> Rule:
    """Units that are silent with probability 1 - keep."""

    def rule(rng: np.random.Generator, setting: Setting, batch: Batch) -> tuple[Array, Array]:
        mask = rng.random(batch.lam.shape) < keep
        g, dg = setting.unit(batch.lam)
        error = ((g * mask * batch.v[:, None]).sum(axis=-1) - batch.y)[..., None]
        return mask * batch.v[:, None] * dg * error, mask * g * error

    return rule


def reward(good: float, bad: float) -> Rule:
    """Reward of whole episodes."""

    def rule(_: np.random.Generator, setting: Setting, batch: Batch) -> tuple[Array, Array]:
        g, dg, phi = _output(setting, batch)
        right = (np.sign(phi) == batch.y).all(axis=-1)
        pull = (-np.sign(phi) * np.where(right, good, -bad)[:, None])[..., None]
        return batch.v[:, None] * dg * pull, g * pull

    return rule
