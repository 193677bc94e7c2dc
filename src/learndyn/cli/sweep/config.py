"""The arguments of `learndyn.sweep` that the TOML file of a sweep asks for.

Its tables are the groups of options of the other subcommands, under the same names, and `over`,
`zip` and `keywords`.
"""

import functools
import typing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from learndyn.cli._options import COMMANDS, Common, ProblemOptions, RuleOptions
from learndyn.cli._settings import (
    CLASSES,
    averages_from,
    inputs_from,
    problem_from,
    rule_from,
    save_times,
)
from learndyn.cli._start import initial_state
from learndyn.cli.sweep.toml import Toml, names_function
from learndyn.datasets import with_value
from learndyn.dynamics import LEVELS
from learndyn.states import GroupedOverlaps, Overlaps, Weights, overlaps, weights_from_overlaps
from learndyn.sweeps import make_plan

_TOP = {"level": str, "seeds": int, "chunk": int, "cost": str}
"""Keys outside of all tables."""

_ELSEWHERE = ("output", "ensemble")
"""Groups of options that have no meaning in a sweep."""

_FUNCTIONS = {
    "problem": ("student", "teacher", "loss"),
    "rule": ("lr", "lr_second", "lr_bias"),
}
"""Options in place of which "module:function" may stand."""

_OF_START = ("n", "k", "m", "init", "init_scale", "teacher_scale")
"""Options of the start over which a sweep can go."""

_NUMBERS = {field.name for group in (ProblemOptions, RuleOptions) for field in fields(group)}
"""Options that are numbers, but for those that have names of their own."""

_RANGE = {"start", "stop", "points", "spacing"}
"""Keys of a table that stands for a list of numbers."""


class Config(NamedTuple):
    """The arguments of `learndyn.sweep`: positional, and by name."""

    toml: Toml
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


def read_config(path: Path) -> Config:
    """The sweep that a file describes, checked as far as can be without running it.

    Raises: ValueError that names the line; OSError where the file cannot be read.
    """
    toml = Toml(path)
    groups, known = _groups(toml)
    options = _options(toml, groups)
    functions = _functions_of(toml)
    grids = {name: _grid(toml, name) for name in ("over", "zip") if name in toml.tables}
    swept = {name for grid in grids.values() for name in grid}
    keywords = _keywords(toml)
    with toml.about("problem"):
        problem = _with_functions(problem_from(options.problem), functions.get("problem", {}))
    with toml.about("rule"):
        rule = rule_from(options.rule, options.times.alpha_max)
        rule = _with_functions(rule, functions.get("rule", {}))
    _refuse_lost_schedules(toml, options, grids)
    with toml.about("times"):
        ts = save_times(options.times)
    key = jax.random.key(options.start.seed)
    with toml.about("start"):
        start, n = _start(toml, options, known, key, swept)
    own = {} if known is None else _own_keywords(toml, options, known, n)
    found = {"over": grids.get("over"), "seeds": toml.tables.get("seeds")}
    found |= {"chunk": toml.tables.get("chunk"), "key": jax.random.fold_in(key, 1)}
    found |= {"zip": grids["zip"]} if "zip" in grids else {}
    found["cost"] = _imported(toml, ("cost",)) if "cost" in toml.tables else None
    unused = {name: x for name, x in own.items() if name not in swept} | keywords
    level = _imported(toml, ("level",)) if known is None else known.function
    config = Config(toml, (level, problem, rule, start, ts), found | unused)
    _check_plan(config)
    return config


def _groups(toml: Toml) -> tuple[dict[str, Any], Any]:
    """The classes of options that the level has, by their tables; and the level, if it is known."""
    if "level" not in toml.tables:
        toml.refuse((), f'the file must say level = one of {list(LEVELS)} or "module:function".')
    name = toml.value(("level",), str)
    if name not in LEVELS and not names_function(name):
        toml.refuse(("level",), f"level must be one of {list(LEVELS)} or \"module:function\"; "
                                f"got {name!r}.")  # fmt: skip
    command = COMMANDS.get(name, Common)
    groups = {
        field.name: typing.get_type_hints(command)[field.name]
        for field in fields(command)
        if field.name not in _ELSEWHERE
    }
    toml.known((), toml.tables, {*_TOP, *groups, "over", "zip", "keywords"})
    for key in _TOP.keys() & toml.tables.keys():
        toml.value((key,), _TOP[key])
    return groups, LEVELS.get(name)


def _options(toml: Toml, groups: dict[str, Any]) -> Any:
    """The options of the command of this level, those of the file in place of their defaults."""
    command = COMMANDS.get(toml.tables["level"], Common)
    made = {}
    for group, kind in groups.items():
        kinds = typing.get_type_hints(kind)
        allowed = {*kinds, *(("fresh", "function") if group == "start" else ())}
        table = toml.value((group,), dict) if group in toml.tables else {}
        toml.known((group,), table, allowed)
        values = {}
        for name, value in table.items():
            plain = name.replace("-", "_")
            if plain in kinds and not (
                plain in _FUNCTIONS.get(group, ()) and names_function(value)
            ):
                values[plain] = toml.value((group, name), kinds[plain])
        made[group] = kind(**values)
    if made["start"].init_file is not None:
        file = toml.path.parent / made["start"].init_file
        made["start"] = replace(made["start"], init_file=file)
    return command(**made)


def _functions_of(toml: Toml) -> dict[str, dict[str, Any]]:
    """What is imported in place of options: activations, losses, and rates as schedules."""
    found: dict[str, dict[str, Any]] = {}
    for group, names in _FUNCTIONS.items():
        for name, value in toml.tables.get(group, {}).items():
            if name.replace("-", "_") in names and names_function(value):
                function = toml.imported((group, name), value)
                found.setdefault(group, {})[name.replace("-", "_")] = function
    problem = found.get("problem", {})
    if "student" in problem and "teacher" not in toml.tables["problem"]:
        problem["teacher"] = problem["student"]
    return found


def _with_functions(tree: Any, functions: dict[str, Any]) -> Any:
    for name, function in functions.items():
        tree = with_value(tree, (name,), function)
    return tree


def _grid(toml: Toml, table: str) -> dict[str, list[Any]]:
    """Values by names, dots leading inside. Raises: ValueError for what is no list of values."""

    def flat(keys: tuple[str, ...], found: dict[str, Any]) -> dict[str, Any]:
        values = {}
        for name, value in found.items():
            inner, path = (*keys, name), ".".join((*keys[1:], name)).replace("-", "_")
            if isinstance(value, dict) and not _RANGE & set(value):
                values |= flat(inner, value)
            else:
                values[path] = _values(toml, inner, value)
        return values

    return flat((table,), toml.value((table,), dict))


def _values(toml: Toml, keys: tuple[str, ...], value: Any) -> list[Any]:
    if isinstance(value, dict):
        return _range(toml, keys, value)
    if not isinstance(value, list) or not value:
        toml.refuse(
            keys,
            f"{keys[-1]} must be a list of values, or {{start = 0, stop = 1, points = 11}}; got "
            f"{value!r}.",
        )
    return [_one(toml, keys, x) for x in value]


def _range(toml: Toml, keys: tuple[str, ...], table: dict[str, Any]) -> list[float]:
    toml.known(keys, table, _RANGE)
    if missing := sorted({"start", "stop", "points"} - set(table)):
        toml.refuse(keys, f"{keys[-1]} must have start, stop and points; {missing} is missing.")
    start, stop = (toml.value((*keys, name), float) for name in ("start", "stop"))
    points = toml.value((*keys, "points"), int)
    spacing = table.get("spacing", "linear")
    if points < 1 or spacing not in ("linear", "log") or (spacing == "log" and start * stop <= 0):
        toml.refuse(
            keys,
            f"{keys[-1]} must have points >= 1, and spacing linear or, for numbers of one sign, "
            f"log; got {table!r}.",
        )
    return (np.linspace if spacing == "linear" else np.geomspace)(start, stop, points).tolist()


def _one(toml: Toml, keys: tuple[str, ...], value: Any) -> Any:
    """One value: a number or text as it is, an activation or loss by its name, or a function."""
    if names_function(value):
        return toml.imported(keys, value)
    if keys[-1] in _FUNCTIONS["problem"]:
        if value not in CLASSES:
            toml.refuse(
                keys,
                f"{keys[-1]} has no {value!r}; there are {', '.join(sorted(CLASSES))}, or "
                '"module:function".',
            )
        return CLASSES[value]()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number and (isinstance(value, dict | list) or keys[-1].replace("-", "_") in _NUMBERS):
        toml.refuse(keys, f"{keys[-1]} must be a list of numbers; got {value!r} in it.")
    return value


def _keywords(toml: Toml) -> dict[str, Any]:
    """Further arguments of level and start."""
    table = toml.value(("keywords",), dict) if "keywords" in toml.tables else {}
    return {
        name: _imported(toml, ("keywords", name)) if names_function(value) else value
        for name, value in table.items()
    }


def _imported(toml: Toml, keys: tuple[str, ...]) -> Any:
    text = toml.value(keys, str)
    if not names_function(text):
        toml.refuse(keys, f'{keys[-1]} must be "module:function"; got {text!r}.')
    return toml.imported(keys, text)


def _refuse_lost_schedules(toml: Toml, options: Any, grids: dict[str, Any]) -> None:
    for table, grid in grids.items():
        for name in _FUNCTIONS["rule"]:
            if name in grid and options.rule.schedule != "constant":
                toml.refuse(
                    (table,),
                    f"{name} is swept, in place of its schedule {options.rule.schedule!r}; sweep "
                    f"over \"{name}.rate\" to keep that.",
                )  # fmt: skip


def _start(
    toml: Toml, options: Any, level: Any, key: jax.Array, swept: set[str]
) -> tuple[Any, int | None]:
    """The initial state, or a function that makes it; and n.

    It is a function of a key where each seed has its own, of sizes where these are swept.
    """
    table = toml.tables.get("start", {})
    if "function" in table:
        toml.known(("start",), table, {"function", "seed"})
        return _imported(toml, ("start", "function")), None
    fresh = bool(level is not None and not level.random and "seeds" in toml.tables)
    fresh = toml.value(("start", "fresh"), bool) if "fresh" in table else fresh
    on_weights = level is not None and level.weights
    inputs = inputs_from(getattr(options, "experiment", None))
    size = getattr(getattr(inputs, "base", inputs), "n", None)
    spherical = options.rule.spherical
    state, n = initial_state(options.start, jax.random.fold_in(key, 0), size, spherical=spherical)
    own = {name: getattr(options.start, name) for name in _OF_START} | {"n": n}
    own |= {"on_weights": on_weights, "spherical": spherical}
    make = functools.partial(drawn, options=options.start, **own)
    if options.start.init_file is not None:
        if fresh or swept.intersection(_OF_START[1:]):
            raise ValueError("init_file is one start: neither fresh nor sizes go with it.")
        return _as_level_wants(state, jax.random.fold_in(key, 2), n, on_weights), n
    if fresh:
        return make, n
    make = functools.partial(make, jax.random.fold_in(key, 0))
    return (make, n) if swept.intersection(_OF_START) else (make(), n)


def drawn(
    start_key: Any,
    *,
    options: Any,
    on_weights: bool,
    spherical: bool,
    n: int,
    k: int | None,
    m: int | None,
    init: Any,
    init_scale: Any,
    teacher_scale: Any,
) -> Weights | Overlaps | GroupedOverlaps:
    """The random start of these options; those that are named here may be swept."""
    own = {"n": n, "k": k, "m": m, "init": init, "init_scale": init_scale}
    changed = replace(options, teacher_scale=teacher_scale, **own)
    state, _ = initial_state(changed, start_key, None, spherical=spherical)
    return overlaps(state) if isinstance(state, Weights) and not on_weights else state


def _as_level_wants(
    state: Weights | Overlaps | GroupedOverlaps, key: jax.Array, n: int, on_weights: bool
) -> Weights | Overlaps | GroupedOverlaps:
    if on_weights:
        return state if isinstance(state, Weights) else weights_from_overlaps(key, state, n)
    return overlaps(state) if isinstance(state, Weights) else state


def _own_keywords(toml: Toml, options: Any, level: Any, n: int | None) -> dict[str, Any]:
    """What a level of description takes after problem, rule, start and times."""
    with toml.about("averages"):
        averages = averages_from(options.averages)
    own = {} if averages is None else {"averages": averages}
    if not level.random:
        return own | vars(options.solver)
    if level.weights:
        with toml.about("experiment"):
            inputs = inputs_from(options.experiment)
        return own | {"inputs": inputs, "input_dtype": options.experiment.input_dtype}
    dt = {"dt": options.langevin.dt} if hasattr(options, "langevin") else {}
    return own | dt | ({} if n is None else {"n": n})


def plan_of(config: Config, **changes: Any) -> Any:
    """The plan of a sweep, for its checks and sizes."""
    named = {"over": {}, "seeds": None, "chunk": None, "cost": None, "key": None} | config.keywords
    named |= changes
    own = {name: named.pop(name) for name in ("seeds", "key", "chunk", "cost")}
    own["zipped"] = named.pop("zip", None)
    over = named.pop("over") or {}
    return make_plan(*config.arguments, over=over, keywords=named, **own)


def _check_plan(config: Config) -> None:
    """Raises: ValueError, with the line of the first swept name that is wrong by itself."""
    try:
        plan_of(config)
    except ValueError as error:
        for table in ("over", "zip"):
            for name, values in (config.keywords.get(table) or {}).items():
                keys = (table, *_written(config.toml.tables[table], name))
                with config.toml.about(*keys):
                    plan_of(config, over={name: values}, zip=None, seeds=None)
        with config.toml.about("zip"):
            plan_of(config, seeds=None)
        config.toml.refuse(("seeds",) if "seeds" in str(error) else (), str(error))


def _written(table: dict[str, Any], name: str) -> tuple[str, ...]:
    """The keys of a swept name as the file has them, with - or _, dotted or as tables."""
    for key, value in table.items():
        plain = key.replace("-", "_")
        if plain == name:
            return (key,)
        if isinstance(value, dict) and name.startswith(f"{plain}."):
            return (key, *_written(value, name.removeprefix(f"{plain}.")))
    return ()
