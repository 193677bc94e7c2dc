"""What a learning rule is: rates, decay, batches, momentum, and which of its averages are known."""

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_count, as_float, brief, is_concrete, require_at_least
from learndyn._readable import Readable
from learndyn._types import CountLike, RealLike, Scalar, Schedule
from learndyn.problems import Layers, Problem, as_module, called, declared
from learndyn.rules._seam import ErrorSignal, FieldAverages, Modulation, Sample


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
    """Learning rates at one time, each one number or one for each unit; None where a layer is not
    trained."""

    w: Float[Array, "*units"]
    v: Float[Array, "*units"] | None
    b: Float[Array, "*units"] | None


class Bounds(NamedTuple):
    """Where a number of a rule must lie, and what it is, for the message: finite, least <= number
    <= most; strict: least is excluded."""

    why: str
    least: float = 0.0
    strict: bool = False
    most: float = math.inf


class AbstractRule(Readable):
    """A learning rule on fresh samples or fresh batches: what a subclass makes of a sample.

        w_i <- w_i - (lr/sqrt n) F_i x - (lr weight_decay/n) w_i,
        v_i <- v_i - (lr_second/n) H_i,   b_i <- b_i - (lr_bias/n) F_i,

    with (F, H) = `modulation`, the mean over the batch. A subclass needs `modulation` alone, and
    then runs at every level of description, its averages taken over nodes. It may declare more:

    - `draws`: how many N(0, 1) numbers each sample has for the rule; `draws_of` where that depends
      on k. `needs_overlaps`: whether it reads Q and R. `is_episode`: whether `modulation` gets all
      samples of a batch at once, with a leading axis, and returns the F and H of each.
    - `propagates_error`: F and H are the loss's slope at the output times functions of the
      student's fields alone, as for the gradient. Then averages know where F jumps and how label
      noise enters; otherwise the first is measured, and the second takes nodes.
    - `closed_form`: its averages, where they follow from those of the error signal.
    - `bounds`: its own single numbers, by field, and where they must lie; every level checks them.
    - `reads`: the functions of `Problem` that the modulation calls; where a subclass overrides one
      of them, nothing is declared of the outcome.
    - `moves_along_weights`: its modulations have dw, which SGD on weights and the ODE in closed
      form alone can follow.
    - `perturbs_weights`: SGD on weights moves along its own random directions of all weights, by
      the gradient's component along them, where `modulation` with draws of 0 is the gradient; the
      chain and the theory of noise do not know this.
    - `is_gradient`: the modulation is the gradient of the loss, as closed forms of the literature
      have it.
    - `is_unbiased`: the mean of the modulation over the rule's own draws is that gradient.
    - `name`, `own_options`: what the command line calls it and its own arguments, which are
      options of the same names; those without a default have to be given.

    The rates, decay, batches and momentum are those of `SGD`, whose docstring explains them.

    Args:
        lr, lr_second, lr_bias: rates of first layer, second layer and biases, as for `SGD`.
        weight_decay, batch_size, momentum, spherical: as for `SGD`.

    Raises:
        ValueError: for values outside their ranges.

    Example:
        >>> class SignOfError(rules.AbstractRule):
        ...     def modulation(self, problem, sample, layers):
        ...         g, dg, error = problem.signals(sample.lam, sample.y, layers)
        ...         return ld.Modulation(layers.v * dg * jnp.sign(error), g * jnp.sign(error))
        >>> layers = ld.Overlaps([[1.0]], [[0.0]], [[1.0]]).layers
        >>> sample = rules.Sample(lam=jnp.zeros(1), y=jnp.array(1.0))
        >>> np.round(SignOfError(lr=0.5).modulation(ld.Problem(), sample, layers).c, 4)
        Array([-0.7979], dtype=float64)
    """

    # Type checkers give a subclass an `__init__` made of these fields, so they say what
    # `__init__` below takes: all but lr may be left out.
    lr: Any
    lr_second: Any = eqx.field(default=None, kw_only=True)
    lr_bias: Any = eqx.field(default=None, kw_only=True)
    weight_decay: Float[Array, "..."] | Any = eqx.field(default=0.0, kw_only=True)
    batch_size: Any = eqx.field(default=1, kw_only=True, static=True)
    """An integer, or math.inf."""
    momentum: Any = eqx.field(default=None, kw_only=True)
    spherical: bool = eqx.field(default=False, kw_only=True, static=True)

    draws: ClassVar[int] = 0
    needs_overlaps: ClassVar[bool] = False
    is_episode: ClassVar[bool] = False
    name: ClassVar[str | None] = None
    own_options: ClassVar[tuple[str, ...]] = ()
    is_gradient: ClassVar[bool] = False
    is_unbiased: ClassVar[bool] = False
    propagates_error: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("gradient", "signals")
    moves_along_weights: ClassVar[bool] = False
    perturbs_weights: ClassVar[bool] = False
    bounds: ClassVar[dict[str, Bounds]] = {}

    def __init__(
        self,
        lr: RealLike | Schedule,
        lr_second: RealLike | Schedule | None = None,
        lr_bias: RealLike | Schedule | None = None,
        weight_decay: RealLike = 0.0,
        batch_size: CountLike = 1,
        momentum: RealLike | SlowMomentum | None = None,
        spherical: bool | Any = False,
    ):
        self.lr = _as_rate(lr, "lr")
        self.lr_second = None if lr_second is None else _as_rate(lr_second, "lr_second")
        self.lr_bias = None if lr_bias is None else _as_rate(lr_bias, "lr_bias")
        self.weight_decay = as_float(weight_decay, "weight_decay")
        self.batch_size = _as_batch_size(batch_size)
        self.momentum, self.spherical = momentum, as_flag(spherical, "spherical")
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

    def modulations(self, problem: Problem, samples: Sample, layers: Layers) -> Modulation:
        """(F, H) of each sample of a batch, (batch, k) each."""
        if self.is_episode:
            return self.modulation(problem, samples, layers)
        seen = samples.overlaps

        def one(sample: Sample) -> Modulation:
            return self.modulation(problem, sample._replace(overlaps=seen), layers)

        return jax.vmap(one)(samples._replace(overlaps=None))

    def require_finite_episode(self) -> None:
        """Raises: ValueError for an episode of infinitely many samples."""
        if self.is_episode and self.has_infinite_batch:
            raise ValueError(
                f"{type(self).__name__} sees all samples of a batch at once, so batch_size must be "
                "an integer; got inf."
            )

    def draws_of(self, k: int) -> int:
        """How many numbers each sample has for a rule of k units."""
        return self.draws

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages | None:
        """The rule's averages from those of the error signal, F_i = g'(lambda_i) (phi - y) and
        H_i = g(lambda_i) (phi - y), of which there are closed forms. None: they do not follow, and
        a rule that does not override this has none.

        Args:
            signal: averages of the error signal.
            layers: second layer and biases of the student.
        """
        return None

    def closed_form_of(self, signal: ErrorSignal) -> FieldAverages | None:
        """The same, for rules that need the averages at other second layers as well."""
        return self.closed_form(signal.at(signal.layers.v), signal.layers)

    def follows(self, problem: Problem) -> bool:
        """Whether a closed form holds for this problem: where it has closed forms itself."""
        return self.has_closed_form and not problem.overrides(*self.reads)

    def wedge_averages(self, problem: Problem) -> Callable | None:
        """Closed-form averages of the slope at the output for a linear unit that learns the sign of
        one field: a function of `learndyn.integrals.half_planes`. By default those of the loss;
        None: there are none."""
        return declared(problem.loss, "wedge_averages") if self.follows(problem) else None

    @property
    def input_noise(self) -> Float[Array, "..."] | None:
        """Standard deviation of noise on the student's inputs, along which the weights then move
        too; labels are those of clean inputs. None: there is none."""
        return None

    def tested_layer(self, v: Float[Array, " k"]) -> Float[Array, " k"]:
        """The second layer of the student that is tested: eg is that of a student with this one."""
        return v

    def require_units(self, k: int, m: int) -> None:
        """Refuse parameters of the rule's own that are not for k and m units.

        Args:
            k, m: numbers of student and teacher units.

        Raises:
            ValueError: where they are not.
        """

    @property
    def own_numbers(self) -> list[tuple[str, Array, Bounds]]:
        """The rule's own single numbers that are there, with their bounds."""
        found = [(name, getattr(self, name), bounds) for name, bounds in self.bounds.items()]
        return [one for one in found if one[1] is not None]

    @property
    def label(self) -> str:
        """What people call the rule: the name of its class."""
        return type(self).__name__

    @property
    def schedules(self) -> list[Any]:
        """The rates that are functions of alpha."""
        return [rate for rate in (self.lr, self.lr_second, self.lr_bias) if callable(rate)]

    @property
    def has_slow_momentum(self) -> bool:
        return isinstance(self.momentum, SlowMomentum)

    @property
    def has_infinite_batch(self) -> bool:
        """Whether a step follows the average over all samples: the population gradient."""
        return math.isinf(self.batch_size)

    @property
    def has_closed_form(self) -> bool:
        """Whether the rule declares a closed form."""
        simple = type(self).closed_form is not AbstractRule.closed_form
        return simple or self.needs_other_layers

    @property
    def needs_other_layers(self) -> bool:
        """Whether that follows from averages at other second layers alone."""
        return type(self).closed_form_of is not AbstractRule.closed_form_of

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

    def steps_per_time(self, n: RealLike) -> Any:
        """How many steps are a unit of the time alpha in n dimensions: n.

        Args:
            n: input dimension.
        """
        return n

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


def require_gradient(
    problem: Problem, rule: AbstractRule, function: str, *, in_the_mean: bool = False
) -> None:
    """Raises: ValueError for a rule, or a subclass of Problem, that does not follow the gradient
    of the loss, of which `function` alone knows the closed form.

    in_the_mean: rules that follow it in the mean over their own draws will do.
    """
    follows = rule.is_unbiased if in_the_mean else rule.is_gradient
    if not follows or problem.overrides(*rule.reads, "label"):
        own = f"the rule {type(rule).__name__}"
        if follows:
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


def _as_batch_size(batch_size: CountLike) -> int | float:
    if isinstance(batch_size, float) and batch_size == math.inf:
        return math.inf
    return as_count(batch_size, "batch_size", "it sets array shapes; math.inf: all samples")


def as_flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; got {brief(value)}.")
    return bool(value)


_JUMPS = (
    " For a rate that jumps at alpha = 5: lr=lambda alpha: jnp.where(alpha < 5, 0.2, 0.1), and "
    "solve_ode(..., jump_ts=[5.0])."
)


def _rate_at(rate: Any, alpha: RealLike) -> Float[Array, "*units"] | None:
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
