"""What a learning rule is: rates, decay, batches, momentum, and what it makes of one sample."""

import abc
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_count, as_float, brief, is_concrete, require_at_least
from learndyn._readable import Readable
from learndyn._types import CountLike, RealLike, Scalar, Schedule
from learndyn.problems import Layers, Problem, as_module, called


class Sample(NamedTuple):
    """What a rule sees of one sample: the student's centred fields lam (k,), and the label y.

    Attributes:
        lam: (k,) the student's centred fields.
        y: () the label.

    Example:
        >>> rules.Sample(lam=jnp.array([0.5, -1.0]), y=1.0).lam
        Array([ 0.5, -1. ], dtype=float64)
    """

    lam: Float[Array, " k"]
    y: Scalar


class Modulation(NamedTuple):
    """What a rule makes of one sample: how much of the input each unit learns, and what v does.

    Attributes:
        c: (k,) the F_i of w_i <- w_i - (lr/sqrt n) F_i x, which move the biases too.
        dv: (k,) the H_i of v_i <- v_i - (lr_second/n) H_i.

    Example:
        >>> ld.Modulation(c=jnp.array([1.0, -1.0]), dv=jnp.zeros(2)).c
        Array([ 1., -1.], dtype=float64)
    """

    c: Float[Array, " k"]
    dv: Float[Array, " k"]


class FieldAverages(NamedTuple):
    """Gaussian averages over one sample, all that a theory of learning needs.

    Attributes:
        G: (k, d) <dF_i/df_c>, so that <F_i a> = sum_c G_ic Cov(f_c, a) for every Gaussian a.
        Phi: (k, k) <F_i F_k>.
        h: (k,) <H_i>, which moves v.
        f: (k,) <F_i>, which moves the biases; NaN where closed forms leave it out, as they do where
            there are no biases.
        fields: (k, d) <F_i f_c>, from nodes that know it without G; None: it is G C.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> problem, rule = ld.Problem(), ld.SGD(lr=0.5)
        >>> ready = averages.choose_averages(problem, 1, 1, rule=rule, biases=False)
        >>> found = ready.field_averages(problem, rule, start)
        >>> np.round(found.G, 4), np.round(found.Phi, 4)
        (Array([[ 0.4827, -0.4118]], dtype=float64), Array([[0.1884]], dtype=float64))
    """

    G: Float[Array, "k d"]
    Phi: Float[Array, "k k"]
    h: Float[Array, " k"]
    f: Float[Array, " k"]
    fields: Float[Array, "k d"] | None = None

    def with_fields(self, covariance: Float[Array, "d d"]) -> Float[Array, "k d"]:
        """<F_i f_c>, where the fields have this covariance C.

        At singular C, where long runs end, nodes give it to more digits than G has.
        """
        return self.G @ covariance if self.fields is None else self.fields

    def weighted(self, weights: Float[Array, " k"]) -> "FieldAverages":
        """The averages where weights_i F_i stands in place of F_i; H stays."""
        column = weights[:, None]
        fields = None if self.fields is None else column * self.fields
        return FieldAverages(
            column * self.G, column * weights * self.Phi, self.h, weights * self.f, fields
        )


class SlowMomentum(Readable):
    """Momentum so slow that it matters at large n: 1 - beta = gamma / n, lr likewise / n.

    A step at input dimension n uses beta = 1 - gamma/n and the rate lr * gamma / n; then the
    velocity brings its own order parameters. gamma > 0, dimensionless.

    Args:
        gamma: > 0, dimensionless.

    Example:
        >>> rule = ld.SGD(lr=0.2, momentum=ld.SlowMomentum(gamma=2.0))
        >>> rates, beta = rule.step_rates(alpha=0.0, n=100)
        >>> round(float(rates.w), 6), round(float(beta), 6)
        (0.004, 0.98)
    """

    gamma: Float[Array, "..."]

    def __init__(self, gamma: RealLike):
        self.gamma = as_float(gamma, "gamma")
        require_at_least(self.gamma, 0.0, "gamma", "1 - beta = gamma / n", strict=True)


class Rates(NamedTuple):
    """Learning rates at one time; None where a layer is not trained."""

    w: Scalar
    v: Scalar | None
    b: Scalar | None


class AbstractRule(Readable):
    """A learning rule on fresh samples or fresh batches: what a subclass makes of a sample.

        w_i <- w_i - (lr/sqrt n) F_i x - (lr weight_decay/n) w_i,
        v_i <- v_i - (lr_second/n) H_i,   b_i <- b_i - (lr_bias/n) F_i,

    with (F, H) = `modulation`, the mean over the batch. A subclass needs `modulation` alone, and
    then runs at every level of description, its averages taken over nodes. It may declare more:

    - `propagates_error`: F and H are the loss's slope at the output times functions of the
      student's fields alone, as for the gradient. Then averages know where F jumps and how label
      noise enters; otherwise the first is measured, and the second takes nodes.
    - `closed_form`: its averages, where they follow from those of the error signal.
    - `reads`: the functions of `Problem` that the modulation calls; where a subclass overrides one
      of them, nothing is declared of the outcome.
    - `is_gradient`: the modulation is the gradient of the loss, as closed forms of the literature
      have it.
    - `name`, `own_options`: what the command line calls it and its own arguments.

    The rates, decay, batches and momentum are those of `SGD`, whose docstring explains them.

    Args:
        lr, lr_second, lr_bias: rates of first layer, second layer and biases, as for `SGD`.
        weight_decay, batch_size, momentum: as for `SGD`.

    Raises:
        ValueError: for values outside their ranges.

    Example:
        >>> class SignOfError(rules.AbstractRule):
        ...     def modulation(self, problem, sample, layers):
        ...         g, dg, error = problem.signals(sample.lam, sample.y, layers)
        ...         return ld.Modulation(layers.v * dg * jnp.sign(error), g * jnp.sign(error))
        >>> layers = ld.Overlaps([[1.0]], [[0.0]], [[1.0]]).layers
        >>> sample = rules.Sample(lam=jnp.zeros(1), y=1.0)
        >>> np.round(SignOfError(lr=0.5).modulation(ld.Problem(), sample, layers).c, 4)
        Array([-0.7979], dtype=float64)
    """

    lr: Any
    lr_second: Any
    lr_bias: Any
    weight_decay: Float[Array, "..."]
    batch_size: int = eqx.field(static=True)
    momentum: Any

    name: ClassVar[str | None] = None
    own_options: ClassVar[tuple[str, ...]] = ()
    is_gradient: ClassVar[bool] = False
    propagates_error: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("gradient", "signals")

    def __init__(
        self,
        lr: RealLike | Schedule,
        lr_second: RealLike | Schedule | None = None,
        lr_bias: RealLike | Schedule | None = None,
        weight_decay: RealLike = 0.0,
        batch_size: CountLike = 1,
        momentum: RealLike | SlowMomentum | None = None,
    ):
        self.lr = _as_rate(lr, "lr")
        self.lr_second = None if lr_second is None else _as_rate(lr_second, "lr_second")
        self.lr_bias = None if lr_bias is None else _as_rate(lr_bias, "lr_bias")
        self.weight_decay = as_float(weight_decay, "weight_decay")
        self.batch_size = as_count(batch_size, "batch_size", "it sets array shapes")
        self.momentum = momentum
        require_at_least(self.weight_decay, 0.0, "weight_decay", "it shrinks the weights")
        if momentum is not None and not isinstance(momentum, SlowMomentum):
            self.momentum = as_float(momentum, "momentum")
            require_at_least(self.momentum, 0.0, "momentum", "beta, 0 <= beta < 1")
            if is_concrete(self.momentum):
                rest = 1.0 - np.asarray(self.momentum)
                require_at_least(rest, 0.0, "1 - momentum", "beta < 1", strict=True)

    @abc.abstractmethod
    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        """(F, H) of one sample. layers: second layers and biases; the teacher's are not there,
        for all that a rule may know of the teacher is the label.

        Args:
            problem: the problem, whose `signals` a rule may ask for.
            sample: fields and label of one sample.
            layers: second layer and biases of the student.
        """

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages | None:
        """The rule's averages from those of the error signal, F_i = g'(lambda_i) (phi - y) and
        H_i = g(lambda_i) (phi - y), of which there are closed forms. None: they do not follow, and
        a rule that does not override this has none.

        Args:
            signal: averages of the error signal.
            layers: second layer and biases of the student.
        """
        return None

    def require_units(self, k: int, m: int) -> None:
        """Refuse parameters of the rule's own that are not for k and m units.

        Args:
            k, m: numbers of student and teacher units.

        Raises:
            ValueError: where they are not.
        """

    @property
    def schedules(self) -> list[Any]:
        """The rates that are functions of alpha."""
        return [rate for rate in (self.lr, self.lr_second, self.lr_bias) if callable(rate)]

    @property
    def has_slow_momentum(self) -> bool:
        return isinstance(self.momentum, SlowMomentum)

    @property
    def has_closed_form(self) -> bool:
        """Whether the rule declares a closed form."""
        return type(self).closed_form is not AbstractRule.closed_form

    @property
    def trains_second(self) -> bool:
        return self.lr_second is not None

    @property
    def trains_biases(self) -> bool:
        return self.lr_bias is not None

    def rates(self, alpha: RealLike) -> Rates:
        """Learning rates at time alpha, as the user gave them.

        Args:
            alpha: time, steps / n.
        """
        return Rates(
            jnp.asarray(_rate_at(self.lr, alpha)),
            _rate_at(self.lr_second, alpha),
            _rate_at(self.lr_bias, alpha),
        )

    def effective_rates(self, alpha: RealLike) -> Rates:
        """Rates of the limit n -> infinity: constant momentum acts as lr / (1 - beta).

        Args:
            alpha: time, steps / n.
        """
        rates = self.rates(alpha)
        if self.momentum is None or self.has_slow_momentum:
            return rates
        # Geometric series: each gradient acts 1 + beta + beta**2 + ... times.
        gain = 1.0 / (1.0 - self.momentum)
        return jax.tree.map(lambda rate: gain * rate, rates)

    def step_rates(self, alpha: RealLike, n: RealLike) -> tuple[Rates, Scalar | None]:
        """Rates of the step at time alpha in n dimensions, and its beta; None: no momentum.

        Args:
            alpha: time, steps / n.
            n: input dimension.
        """
        rates = self.rates(alpha)
        if not isinstance(self.momentum, SlowMomentum):
            return rates, self.momentum
        slow = self.momentum.gamma / n
        return jax.tree.map(lambda rate: rate * slow, rates), 1.0 - slow


def require_gradient(problem: Problem, rule: AbstractRule, function: str) -> None:
    """Raises: ValueError for a rule, or a subclass of Problem, that does not follow the gradient
    of the loss, of which `function` alone knows the closed form."""
    if not rule.is_gradient or problem.overrides(*rule.reads, "label"):
        own = f"the rule {type(rule).__name__}"
        if rule.is_gradient:
            own = f"{type(problem).__name__}, a problem with its own gradient or label"
        raise ValueError(
            f"{function}: this is a formula for gradient descent on the loss; got {own}. Use "
            "solve_ode, or fixed_point for where it ends, which take any rule."
        )


def _as_rate(rate: RealLike | Schedule, name: str) -> Any:
    if callable(rate):
        return as_module(rate, name)
    rate = as_float(rate, name)
    require_at_least(rate, 0.0, name, "a learning rate")
    return rate


_JUMPS = (
    " For a rate that jumps at alpha = 5: lr=lambda alpha: jnp.where(alpha < 5, 0.2, 0.1), and "
    "solve_ode(..., jump_ts=[5.0])."
)


def _rate_at(rate: Any, alpha: RealLike) -> Scalar | None:
    if rate is None or not callable(rate):
        return rate
    alpha = jnp.asarray(alpha, jnp.result_type(float))
    must = "a learning-rate schedule must be a function of alpha alone"
    value = called(rate, must, alpha, advice=_JUMPS)
    try:
        value = jnp.asarray(value, jnp.result_type(float))
    except (TypeError, ValueError):
        raise ValueError(
            f"a learning-rate schedule must return one real number; got {brief(value)}."
        ) from None
    if value.shape != ():
        raise ValueError(
            f"a learning-rate schedule must return one number; got shape {value.shape}."
        )
    return jnp.where(value >= 0, value, jnp.nan)  # traced: it cannot raise
