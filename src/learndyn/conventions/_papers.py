"""Scalings of the literature on committee machines."""

import math
from typing import Any

from learndyn._types import RealLike
from learndyn.conventions._convention import Convention, Scale
from learndyn.problems import Linear, Problem
from learndyn.rules import SGD

_VARIANCE = Scale(power=0.5)
"""Our noise is a standard deviation: the square root of a variance."""


def from_saad_solla(
    lr: RealLike, *, noise_variance: RealLike = 0.0, n: int | None = None
) -> Convention:
    """The soft committee machine of Saad & Solla (1995): erf units, all second layers 1.

    Their fields are x_i = J_i . xi with weights J_i of length one, and a step is J_i <- J_i +
    (eta/N) delta_i xi. So eta, alpha, Q, R, T and eg (with its 1/2) have our numbers; our weights
    are sqrt(N) times theirs.

    Worked number: K = M = 3 and eta -> 0 have the symmetric plateau Q = 1/5, R = 1/sqrt(15), eg =
    (3/pi)(pi/6 - 3 arcsin(1/6)) = 0.020297.

    Args:
        lr: their eta.
        noise_variance: that of the noise on the labels (as in their later work).
        n: their N, with which `ours("w", J)` converts weights.

    Raises:
        ValueError: for a negative rate or variance.

    Source:
        D. Saad and S. A. Solla, Phys. Rev. E 52, 4225 (1995).

    Example:
        >>> paper = conventions.from_saad_solla(lr=0.2, noise_variance=0.04)
        >>> paper.problem.noise, paper.rule
        (Array(0.2, dtype=float64), SGD(lr=0.2))
        >>> round(float(asymptotics.plateau(3, 0.0).eg), 6)
        0.020297
    """
    return _committee("Saad & Solla (1995)", lr, noise_variance, n)


def from_biehl_schwarze(
    lr: RealLike, *, noise_variance: RealLike = 0.0, n: int | None = None
) -> Convention:
    """The networks of Biehl & Schwarze (1995): as `from_saad_solla`, whose scaling is the same.

    Worked number: a single erf unit learns a single erf unit perfectly for eta below sqrt(5) pi /
    sqrt(3) = 4.055779, which is `ld.asymptotics.critical_lr_specialised(1)`.

    Args:
        lr: their eta.
        noise_variance: that of the noise on the labels.
        n: their N, with which `ours("w", J)` converts weights.

    Raises:
        ValueError: for a negative rate or variance.

    Source:
        M. Biehl and H. Schwarze, J. Phys. A 28, 643 (1995).

    Example:
        >>> conventions.from_biehl_schwarze(lr=3.0).rule
        SGD(lr=3)
        >>> round(float(asymptotics.critical_lr_specialised(1)), 6)
        4.055779
    """
    return _committee("Biehl & Schwarze (1995)", lr, noise_variance, n)


def from_statphys(
    lr: RealLike,
    *,
    eta_noise: RealLike = 0.0,
    reg_param: RealLike = 0.0,
    k: int = 1,
    activation: Any = None,
) -> Convention:
    """The online theory of the package StatPhys-ML (`statphys`): m, q, rho; noise as a variance.

    Their closed form of q for lambda > 0 is wrong, and so is the critical rate 2 / (1 + lambda):
    use `ld.asymptotics.ridge` and `critical_lr_ridge`, which is 2 (1 + lambda).

    Worked number: lr = 0.8, reg_param = 0.5, eta_noise = 0.1, rho = 1 end at m = 2/3, q = 0.521212.

    Args:
        lr: their lr (tau).
        eta_noise: the variance of the label noise.
        reg_param: their lambda, which is our weight_decay.
        activation: of student and teacher; None: Linear().
        k: units of their committee, (1/sqrt k) sum_i g(w_i . x / sqrt d), so that their second
            layers 1 are our v = 1/sqrt(k). Their teacher is divided by the root of its own number
            of units. m is our R, q our Q, rho our T; t is alpha and eg has the factor 1/2.

    Raises:
        ValueError: for negative numbers, or k < 1.

    Source:
        The package's notes on online SGD, sections 5 and 6, with the regulariser in a step as tau
        lambda / d, which its equations need.

    Example:
        >>> theirs = conventions.from_statphys(0.8, reg_param=0.5, eta_noise=0.1)
        >>> theirs.rule
        SGD(lr=0.8, weight_decay=0.5)
        >>> end = asymptotics.ridge(0.8, weight_decay=0.5, noise=theirs.problem.noise)
        >>> round(float(end.m), 6), round(float(end.q), 6)
        (0.666667, 0.521212)
    """
    if k < 1:
        raise ValueError(f"k must be a number of units >= 1; got {k}.")
    unit = Linear() if activation is None else activation
    problem = Problem(unit, unit, noise=_root(eta_noise, "eta_noise"))
    scales = {"noise": _VARIANCE, "v": Scale(1.0 / math.sqrt(k))}
    return Convention("StatPhys-ML", problem, SGD(lr=lr, weight_decay=reg_param), scales)


def _committee(source: str, lr: RealLike, noise_variance: RealLike, n: int | None) -> Convention:
    problem = Problem(noise=_root(noise_variance, "noise_variance"))
    scales = {"noise": _VARIANCE}
    if n is not None:
        if n < 1:
            raise ValueError(f"n must be an input dimension >= 1; got {n}.")
        scales["w"] = Scale(math.sqrt(n))
    return Convention(source, problem, SGD(lr=lr), scales)


def _root(variance: Any, name: str) -> float:
    if not variance >= 0:
        raise ValueError(f"{name} must be a variance >= 0; got {variance}.")
    return math.sqrt(variance)
