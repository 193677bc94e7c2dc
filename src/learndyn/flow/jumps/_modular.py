"""Quadratic networks that learn addition modulo p: one frequency after another."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from learndyn._checks import as_count
from learndyn._types import CountLike, RealLike
from learndyn.flow.jumps._data import host
from learndyn.flow.jumps._result import Jumps

_ZERO_MEAN = 1e-10
"""The mean of x, over its largest entry, that still counts as rounding."""

_ABSENT = 1e-10
"""Frequencies whose amplitude is below this, over the largest, are not there to be learned."""

_TIED = 1e-10
"""Amplitudes that agree to this relative precision belong to frequencies that jump together."""


class ModularUtility(NamedTuple):
    """How fast neurons of each frequency can grow; from `modular_utility`.

    Attributes:
        frequencies: those that x has, by falling amplitude |x̂|.
        maxima: the largest mean correlation of a neuron of norm 1 of that frequency with the
            labels.
        amplitudes: |x̂| of each frequency.
        phases: of x̂; the best u, v, w are √(2/(3p)) cos(2π k a/p + s) with s_u + s_v = s_w +
            phase.
        pure: whether no other frequency that is present is ±3 times this one modulo p; such a one
            would mix with it as they learn.

    Example:
        >>> x = np.cos(2 * np.pi * np.arange(5) / 5)
        >>> found = flow.modular_utility(x)
        >>> found.pure, np.round(found.amplitudes, 4)
        (array([ True]), array([2.5]))
    """

    frequencies: Int[np.ndarray, " frequencies"]
    maxima: Float[np.ndarray, " frequencies"]
    amplitudes: Float[np.ndarray, " frequencies"]
    phases: Float[np.ndarray, " frequencies"]
    pure: Bool[np.ndarray, " frequencies"]


def modular_utility(x: RealLike) -> ModularUtility:
    """Utilities of neurons of one frequency, (u·ax + v·bx)² w, on addition modulo p.

    Equation: max U = √(2/(27 p³)) |x̂_k|³ on |u|² + |v|² + |w|² = 1, x̂_k = Σ_j x_j e^{-2πi k j/p}.
    It is the global maximum for the largest amplitude, a strict local one for every other.

    Error: rounding.

    Args:
        x: (p,), p odd, mean 0, the encoding: inputs are its shifts ax, bx, the label that by a + b.

    Raises:
        ValueError: for p even (there frequency p/2 counts √2 times as much), p < 3, a mean that is
            not 0, complex, infinite or traced input.

    Source:
        Kunin et al., Alternating gradient flows (2025), Theorem 6.2; re-derived.

    Example:
        >>> x = np.cos(2 * np.pi * np.arange(5) / 5)
        >>> found = flow.modular_utility(x)
        >>> found.frequencies, np.round(found.maxima, 4)
        (array([1]), array([0.3804]))
    """
    x = _encoding(x)
    p = len(x)
    spectrum = np.fft.fft(x)[1 : (p + 1) // 2]
    order = np.argsort(-np.abs(spectrum), kind="stable")
    amplitudes = np.abs(spectrum)[order]
    present = amplitudes > _ABSENT * amplitudes[0]
    frequencies = order[present] + 1
    return ModularUtility(
        frequencies=frequencies,
        maxima=np.sqrt(2 / (27 * p**3)) * amplitudes[present] ** 3,
        amplitudes=amplitudes[present],
        phases=np.angle(spectrum)[order][present],
        pure=_pure(frequencies, p),
    )


def modular_jumps(x: RealLike) -> Jumps:
    """Frequencies of addition modulo p in the order in which a small network learns them.

    Equation: T_k = 1/(3 max U_k) in units of 1/alpha, for neurons that start aligned; the loss
    after frequencies F is |x|²/2 - (1/p) Σ_F |x̂_k|².

    The levels are those of at least six neurons per frequency, and of frequencies that do not mix
    (`pure` of `modular_utility`). With fewer, or while neurons wake one by one, there are plateaus
    between: with 1, 2, 3, 4 neurons at least 8/9, 5/9, 0.32566, 1/6 of a frequency's share remain;
    with 5 nothing, but only for infinite weights. Neurons from a random start must turn first, and
    jump later.

    Args:
        x: (p,), as for `modular_utility`. The loss is L = 1/(2p²) Σ_{a,b} |f - label|².

    Returns:
        `flow.Jumps` of degree 3 with frequencies (K,). At a jump the first neuron of a frequency
        reaches norm 1; `ties` marks amplitudes that are equal.

    Raises:
        ValueError: as `modular_utility`.

    Source:
        Kunin et al., Alternating gradient flows (2025); re-derived.

    Example:
        >>> angles = 2 * np.pi * np.arange(7) / 7
        >>> jumps = flow.modular_jumps(2.0 * np.cos(angles) + np.cos(2 * angles))
        >>> jumps.frequencies, np.round(jumps.times, 4)
        (array([1, 2]), array([0.0661, 0.529 ]))
    """
    found = modular_utility(x)
    x = _encoding(x)
    losses = np.append(0.0, np.cumsum(found.amplitudes**2)) / len(x)
    near = np.append(False, found.amplitudes[1:] > (1 - _TIED) * found.amplitudes[:-1])
    return Jumps(
        times=1 / (3 * found.maxima),
        loss=np.maximum(losses[-1] - losses, 0.0),
        frequencies=found.frequencies,
        ties=near,
        degree=3,
    )


def modular_neurons(
    x: RealLike, frequency: CountLike
) -> tuple[Float[np.ndarray, "6 p"], Float[np.ndarray, "6 p"], Float[np.ndarray, "6 p"]]:
    """Six neurons u, v, w (6, p) that learn one frequency of addition modulo p exactly.

    Six are needed: the tensor that they must represent has rank 6. The layers are balanced.

    Equation: phases (u, v, w) = (πk/3, πk/3, 2πk/3), k = 0, 1, 2, and the same with v and w turned
    by π, each relative to the phase of x; amplitude³ = 2/(3 p |x̂|).

    Args:
        x: (p,), as for `modular_utility`.
        frequency: 1 to (p - 1)/2, present in x.

    Raises:
        ValueError: for a frequency that x does not have, and as `modular_utility`.

    Source:
        Derived here.

    Example:
        >>> x = np.cos(2 * np.pi * np.arange(5) / 5)
        >>> network = flow.ModularAddition(*flow.modular_neurons(x, 1))
        >>> round(float(flow.loss(network, flow.modular_data(x))), 12)
        0.0
    """
    x = _encoding(x)
    p = len(x)
    frequency = as_count(frequency, "frequency", "a wave on p sites")
    found = modular_utility(x)
    if frequency not in found.frequencies:
        raise ValueError(f"frequency must be one of {found.frequencies.tolist()}; got {frequency}.")
    place = int(np.flatnonzero(found.frequencies == frequency)[0])
    size = np.cbrt(2 / (3 * p * found.amplitudes[place]))
    turns = np.pi / 3 * np.tile(np.arange(3), 2)[:, None] + found.phases[place]
    flip = np.pi * np.repeat([0, 1], 3)[:, None]
    angle = 2 * np.pi * frequency * np.arange(p) / p
    wave = lambda phase: size * np.cos(angle + phase)
    return wave(turns), wave(turns + flip), wave(2 * turns - found.phases[place] + flip)


def _encoding(x: RealLike) -> Float[np.ndarray, " p"]:
    x = host(x, "x", "theory of modular addition")
    if x.ndim != 1 or len(x) < 3 or len(x) % 2 == 0:
        raise ValueError(
            "x must have shape (p,) with p odd and at least 3 (for even p the frequency p/2 counts "
            f"√2 times as much); got shape {x.shape}."
        )
    if not abs(x.mean()) <= _ZERO_MEAN * np.abs(x).max() or not x.any():
        raise ValueError(
            f"x must have mean 0 and not vanish; its mean is {x.mean():.3g}. Subtract it."
        )
    return x


def _pure(frequencies: Int[np.ndarray, " k"], p: int) -> Bool[np.ndarray, " k"]:
    """Whether ±3 times the frequency is no other frequency that is present."""
    folded = np.minimum(3 * frequencies % p, -3 * frequencies % p)
    return ~(np.isin(folded, frequencies) & (folded != frequencies))
