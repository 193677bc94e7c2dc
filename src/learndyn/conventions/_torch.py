"""The scaling of a network as one writes it in PyTorch."""

import math

from learndyn._types import CountLike, RealLike
from learndyn.conventions._convention import Convention, Scale
from learndyn.problems import Problem
from learndyn.rules import SGD

_GRADIENT = {"mse": 2.0, "half mse": 1.0}
"""Their loss of one sample over ours, (phi - y)**2 / 2."""


def from_torch(
    lr: RealLike,
    n: int,
    *,
    loss: str = "mse",
    reduction: str = "mean",
    scaled: bool = False,
    second: bool = False,
    bias: bool = False,
    weight_decay: RealLike = 0.0,
    momentum: RealLike | None = None,
    batch_size: CountLike = 1,
    problem: Problem | None = None,
) -> Convention:
    """`torch.optim.SGD(lr)` on Linear(n, k), units, Linear(k, 1, bias=False), on fresh samples.

    PyTorch's layers multiply inputs without 1/sqrt(n), `MSELoss` has no 1/2, and `lr` has no 1/n.
    So our rates are 2 n lr for all layers, and our first layer is sqrt(n) times theirs, W, so that
    Q = W W^T. One call of `optimizer.step()` is a step: `ours("time", steps)` is steps / n.
    `MSELoss` on clean labels is twice our eg.

    Worked number: lr = 0.001, n = 784 and `MSELoss` are eta = 1.568. PyTorch's default weights,
    uniform in +-1/sqrt(n), have Q_ii = 1/3.

    Args:
        lr: of `torch.optim.SGD`, one for all layers.
        n: in_features.
        loss: "mse" is `MSELoss`; "half mse" is half of it.
        reduction: as in `MSELoss`.
        scaled: the first layer's output is divided by sqrt(n), so that its weights are ours, and
            its rate is 2 lr.
        second, bias: whether the second layer and the first layer's biases are trained; both with
            lr.
        weight_decay: that of the first layer's parameter group; ours acts on no other layer.
        momentum: None, or in [0, 1), without dampening and Nesterov's step.
        batch_size: samples of each step.
        problem: units and noise; None: erf units without noise.

    Raises:
        ValueError: for numbers out of range, or another loss or reduction.

    Source:
        PyTorch's documentation of `SGD`, `Linear` and `MSELoss`.

    Example:
        >>> torch = conventions.from_torch(lr=0.001, n=784)
        >>> torch.rule
        SGD(lr=1.568)
        >>> round(float(torch.ours("time", 78400)), 6)
        100.0
    """
    if loss not in _GRADIENT or reduction not in ("mean", "sum"):
        raise ValueError(
            "loss must be 'mse' or 'half mse', and reduction 'mean' or 'sum'; got "
            f"{loss!r} and {reduction!r}."
        )
    if n < 1:
        raise ValueError(f"n must be an input dimension >= 1; got {n}.")
    factor = _GRADIENT[loss]
    gradient = factor * (int(batch_size) if reduction == "sum" else 1)
    scales = _scales(n, factor, gradient, scaled)
    rates = {name: scales[name].ours(lr) for name in ("lr", "lr_second", "lr_bias")}
    rule = SGD(
        lr=rates["lr"],
        lr_second=rates["lr_second"] if second else None,
        lr_bias=rates["lr_bias"] if bias else None,
        weight_decay=scales["weight_decay"].ours(weight_decay),
        batch_size=batch_size,
        momentum=momentum,
    )
    return Convention("PyTorch", Problem() if problem is None else problem, rule, scales)


def _scales(n: int, factor: float, gradient: float, scaled: bool) -> dict[str, Scale]:
    """factor: of their loss. gradient: of their gradient, which a sum over a batch multiplies."""
    shared = {"time": Scale(1.0 / n), "eg": Scale(1.0 / factor)}
    # Our steps of v and b have the rate eta / n, theirs lr times the gradient of their loss.
    shared |= {"lr_second": Scale(gradient * n), "lr_bias": Scale(gradient * n)}
    if scaled:
        # Our steps of w have the rate eta, on the gradient with its 1 / sqrt n.
        return shared | {"lr": Scale(gradient), "weight_decay": Scale(n / gradient)}
    # With W = w / sqrt n, a step lr (gradient of W) is n lr (gradient of w).
    first = {"lr": Scale(gradient * n), "weight_decay": Scale(1.0 / gradient)}
    return shared | first | {"w": Scale(math.sqrt(n))}
