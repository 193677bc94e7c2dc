"""The objects of the library that options ask for."""

import dataclasses
import functools
import inspect
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn import problems
from learndyn._extras import require_extra
from learndyn.averages import (
    GaussHermite,
    MonteCarlo,
    QuasiMonteCarlo,
    has_biases,
    has_closed_form,
    learns_half_plane,
)
from learndyn.cli._start import initial_state
from learndyn.datasets import require_writable
from learndyn.inputs import AbstractInputs, Gaussian, TrainingSet, digits
from learndyn.rules import NAMED, AbstractRule, SlowMomentum
from learndyn.states import GroupedOverlaps, Overlaps, Weights

CLASSES = {cls.name: cls for cls in vars(problems).values() if getattr(cls, "name", None)}
"""Activations and losses by their names on the command line, which `_names` lists."""


_FEW_UNITS = 8
"""Units in all up to which the ODE by closed forms is solved unasked. To alpha = 100
it takes 0.2 s for 8 ReLU units once it is compiled, and 0.02 s for erf; for 16 ReLU units 7 s."""


class Power(eqx.Module):
    """rate (1 + alpha / scale)**-power."""

    rate: float
    scale: float
    power: float

    def __call__(self, alpha: Float[Array, ""]) -> Float[Array, ""]:
        return self.rate * (1.0 + alpha / self.scale) ** -self.power


class Cosine(eqx.Module):
    """Half a cosine from rate at alpha = 0 to final * rate at scale; constant afterwards."""

    rate: float
    scale: float
    final: float

    def __call__(self, alpha: Float[Array, ""]) -> Float[Array, ""]:
        fall = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(alpha / self.scale, 1.0)))
        return self.rate * (self.final + (1.0 - self.final) * fall)


class Settings(NamedTuple):
    """Everything a run needs, and where its results go."""

    problem: problems.Problem
    rule: AbstractRule
    start: Weights | Overlaps | GroupedOverlaps
    ts: np.ndarray
    inputs: AbstractInputs | TrainingSet
    averages: Any
    theory: bool
    band: bool
    n: int
    key: jax.Array
    output: Path
    png: bool
    progress: bool | None
    attributes: dict[str, Any]


def settings_from(options: Any, level: str) -> Settings:
    """Build and check everything that can be checked before a run.

    Raises: ValueError for options that do not go together; OSError where a file cannot be read or
    written; ImportError for an extra that is not installed.
    """
    png = can_draw(options.output)
    key = jax.random.key(options.start.seed)
    inputs = inputs_from(getattr(options, "experiment", None))
    size = getattr(getattr(inputs, "base", inputs), "n", None)
    start, n = initial_state(
        options.start, jax.random.fold_in(key, 0), size, spherical=options.rule.spherical
    )
    problem = problem_from(options.problem)
    rule = rule_from(options.rule, options.times.alpha_max)
    averages = averages_from(options.averages)
    wanted = getattr(getattr(options, "ensemble", None), "theory", "off")
    cheap = wanted == "auto" and is_cheap(problem, rule, start, inputs, averages)
    theory = cheap or wanted in ("on", "band")
    output = output_path(options.output, level, png, ["ode"] if theory else [])
    return Settings(
        problem,
        rule,
        start,
        save_times(options.times),
        inputs,
        averages,
        theory,
        wanted == "band",
        n,
        jax.random.fold_in(key, 1),
        output,
        png,
        {"auto": None, "on": True, "off": False}[options.output.progress],
        {"options": json.dumps(dataclasses.asdict(options), default=str)},
    )


def save_times(options: Any) -> np.ndarray:
    """0 and the others, linear or logarithmic, the last one exactly alpha_max."""
    if options.points < 2:
        raise ValueError(f"--points must be at least 2, for 0 and alpha-max; got {options.points}.")
    if not options.alpha_max > 0:
        raise ValueError(f"--alpha-max must be > 0; got {options.alpha_max}.")
    if options.spacing == "linear":
        _require_unused(options, "alpha_min", "--spacing log")
        return np.linspace(0.0, options.alpha_max, options.points)
    alpha_min = 0.1 if options.alpha_min is None else options.alpha_min
    if not 0 < alpha_min < options.alpha_max:
        raise ValueError(
            f"--alpha-min must lie between 0 and alpha-max = {options.alpha_max:g}; got "
            f"{alpha_min:g}."
        )
    if options.points == 2:
        return np.array([0.0, options.alpha_max])
    return np.r_[0.0, np.geomspace(alpha_min, options.alpha_max, options.points - 1)]


def problem_from(options: Any) -> problems.Problem:
    teacher = options.student if options.teacher is None else options.teacher
    if options.flip and teacher != "sign":
        raise ValueError(f"--flip turns labels of --teacher sign; got --teacher {teacher}.")
    own = {"flip": options.flip} if teacher == "sign" else {}
    student, loss = (CLASSES[name]() for name in (options.student, options.loss))
    return problems.Problem(student, CLASSES[teacher](**own), loss, options.noise)


def rule_from(options: Any, alpha_max: float) -> AbstractRule:
    if options.momentum is not None and options.slow_momentum is not None:
        raise ValueError("give either --momentum or --slow-momentum, not both.")
    _require_used_schedule(options)
    slow, rule = options.slow_momentum, NAMED[options.rule]
    own = _own_arguments(options, rule) | _batch(options)
    names = ("lr", "lr_second", "lr_bias")
    rates: dict[str, Any] = {name: _rate(name, getattr(options, name)) for name in names}
    rule(**own, **rates)  # checks the numbers before they are wrapped in schedules
    return rule(
        **own,
        **{name: _scheduled(name, rate, options, alpha_max) for name, rate in rates.items()},
        weight_decay=options.weight_decay,
        momentum=options.momentum if slow is None else SlowMomentum(slow),
        spherical=options.spherical,
    )


def _own_arguments(options: Any, rule: type[AbstractRule]) -> dict[str, Any]:
    """The options of this rule other than rates. Raises: ValueError for those of other rules, and
    where one is missing that has no default."""
    defaults = inspect.signature(rule).parameters
    for name in sorted({name for one in NAMED.values() for name in one.own_options}):
        given, taken = getattr(options, name) is not None, name in rule.own_options
        needed = taken and defaults[name].default in (inspect.Parameter.empty, None)
        if (given and not taken) or (needed and not given):
            does = "does not take" if given else "needs"
            raise ValueError(f"--rule {rule.name} {does} --{name}.")
    own = {name: getattr(options, name) for name in rule.own_options}
    own = {name: value for name, value in own.items() if value is not None}
    return own | ({"feedback": _numbers("feedback", own["feedback"])} if "feedback" in own else {})


def _batch(options: Any) -> dict[str, Any]:
    if options.batch_size is None:
        return {}
    return {"batch_size": math.inf if options.batch_size == "inf" else options.batch_size}


def _rate(name: str, given: float | str | None) -> float | list[float] | None:
    """One rate, or one for each unit, which are numbers separated by commas."""
    return _numbers(name.replace("_", "-"), given) if isinstance(given, str) else given


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--{name} must be numbers separated by commas, such as 1,0.7; got {text!r}."
        ) from None


def _scheduled(name: str, rate: Any, options: Any, alpha_max: float) -> Any:
    if rate is None or options.schedule == "constant":
        return rate
    if isinstance(rate, list):
        raise ValueError(
            f"--schedule {options.schedule} takes one rate for all units; got --"
            f"{name.replace('_', '-')} {','.join(f'{x:g}' for x in rate)}."
        )
    scale = alpha_max if options.schedule_scale is None else options.schedule_scale
    if not scale > 0:
        raise ValueError(f"--schedule-scale must be > 0; got {scale:g}.")
    if options.schedule == "power":
        return Power(rate, scale, 0.5 if options.schedule_power is None else options.schedule_power)
    final = options.schedule_final or 0.0
    if not final >= 0:
        raise ValueError(f"--schedule-final must be >= 0; got {final:g}.")
    return Cosine(rate, scale, final)


def _require_used_schedule(options: Any) -> None:
    """Raises: ValueError for numbers of another schedule than the one that is asked for."""
    if options.schedule == "constant":
        _require_unused(options, "schedule_scale", "--schedule power or cosine")
    if options.schedule != "power":
        _require_unused(options, "schedule_power", "--schedule power")
    if options.schedule != "cosine":
        _require_unused(options, "schedule_final", "--schedule cosine")


def _require_unused(options: Any, name: str, where: str) -> None:
    """Raises: ValueError for an option that is given where it would be ignored."""
    value = getattr(options, name)
    if value is not None:
        raise ValueError(f"--{name.replace('_', '-')} goes with {where}; got {value:g} without it.")


def averages_from(options: Any) -> Any:
    nodes = options.nodes
    closed = functools.partial(QuasiMonteCarlo, symmetric=True)
    kinds = {"hermite": GaussHermite, "qmc": closed, "mc": MonteCarlo}
    if options.averages in kinds:
        kind = kinds[options.averages]
        return kind() if nodes is None else kind(nodes)
    if nodes is not None:
        raise ValueError(f"--nodes goes with --averages hermite, qmc or mc; got {nodes}.")
    return None if options.averages == "auto" else options.averages


def inputs_from(options: Any) -> AbstractInputs | TrainingSet:
    if options is None:
        return Gaussian()
    whiten = options.inputs == "digits-whitened"
    base = Gaussian() if options.inputs == "gaussian" else digits(whiten=whiten)
    if options.train_size is None:
        if not options.replace:
            raise ValueError("--no-replace goes with --train-size, the size of the training set.")
        return base
    return TrainingSet(base, options.train_size, options.replace)


def is_cheap(
    problem: problems.Problem,
    rule: AbstractRule,
    start: Weights | Overlaps | GroupedOverlaps,
    inputs: AbstractInputs | TrainingSet,
    averages: Any,
) -> bool:
    """Whether the ODE is the theory of these runs and takes seconds, most of them to compile."""
    slow = isinstance(rule.momentum, SlowMomentum)
    if slow or not isinstance(averages, str | None) or not isinstance(inputs, Gaussian):
        return False
    biases = has_biases(start, rule)
    if (start.k, start.m) == (1, 1) and learns_half_plane(problem, rule, biases=biases):
        return True
    return start.k + start.m <= _FEW_UNITS and has_closed_form(problem, rule, biases=biases)


def can_draw(options: Any) -> bool:
    """Whether a figure is wanted and possible; said before the run where it is not possible."""
    if not options.png:
        return False
    try:
        require_extra("matplotlib", "plot", "the figure")
    except ImportError as error:
        print(f"no figure: {error} Or leave it out: --no-png.", file=sys.stderr)
        return False
    return True


def output_path(options: Any, level: str, png: bool, others: Sequence[str] = ()) -> Path:
    """The NetCDF file, where it, the figure and its companions can be written.

    others: of OUTPUT-ode.nc, say, "ode".
    Raises: ValueError for another ending; OSError where no file can be written there, or where one
    is and --force is not given.
    """
    path = Path(f"learndyn-{level}.nc") if options.output is None else options.output
    if path.suffix != ".nc":
        raise ValueError(f"--output must end in .nc, for NetCDF; got {str(path)!r}.")
    files = [path, *([path.with_suffix(".png")] if png else [])]
    files += [path.with_stem(f"{path.stem}-{name}") for name in others]
    for file in files:
        require_writable(file)
    if not options.force and (there := [str(file) for file in files if file.exists()]):
        raise FileExistsError(
            f"{', '.join(there)} would be replaced: add --force, or choose another --output."
        )
    return path
