"""The setting of datasets in one line, for the top of a figure."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from learndyn.plot._data import shown_value, symbol
from learndyn.plot._style import GREY, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = 7.0
"""Points: a line of all quantities is as wide as the narrowest figure, 4.6 inches."""


def setting_of(datasets: Iterable[Any]) -> str:
    """The rule where it is not SGD, k, m, n, rates, decay, batch, momentum, the rule's own numbers,
    noise and seed, where they are known and are the same in all datasets and runs; "" where nothing
    is."""
    given = list(datasets)
    swept = {name for one in given for name in str(one.attrs.get("swept", "")).split()}
    found = [_quantities(one) for one in given]
    # The theory has no n and no seed: those that have a value say it.
    values = {name: {one[name] for one in found if name in one} for one in found for name in one}
    alike = {name: x.pop() for name, x in values.items() if len(x) == 1 and name not in swept}
    others = [name for name in alike if name not in (*_FIRST, *_LAST)]
    return ", ".join(_word(x, alike[x]) for x in (*_FIRST, *others, *_LAST) if x in alike)


def tell_setting(ax: "Axes", datasets: Iterable[Any], *notes: str) -> None:
    """One grey line over the axes: the setting, and notes on what is not to be seen."""
    words = ", ".join(word for word in (setting_of(datasets), *notes) if word)
    ax.set_title(words, loc="right", fontsize=_SIZE, color=GREY)


def tell_setting_once(axes: Any) -> None:
    """Move the line of the first axes over the whole figure, which has several."""
    first: Any = axes.flat[0]
    words = first.get_title(loc="right")
    first.set_title("", loc="right")
    if words:
        figure_of(axes).suptitle(words, fontsize=_SIZE, color=GREY, x=0.99, ha="right")


def _word(name: str, value: str) -> str:
    if name == "rule":
        return value
    return f"seed {value}" if name == "seed" else f"{symbol(name)} = {value}"


_RATES = ("lr", "lr_second", "lr_bias", "weight_decay", "batch_size", "momentum")

_FIRST, _LAST = ("rule", "k", "m", "n", *_RATES), ("noise", "seed")
"""The order in which the line names quantities; the rule's own numbers are in between."""

_DEFAULTS = {"noise": 0.0, "weight_decay": 0.0, "batch_size": 1, "draws": 0}
"""What a line leaves out: it is there in most settings, and says nothing."""


def _quantities(dataset: Any) -> dict[str, str]:
    sizes = {"k": dataset.sizes.get("student"), "m": dataset.sizes.get("teacher")}
    rule, problem = (json.loads(dataset.attrs.get(name, "{}")) for name in ("rule", "problem"))
    found = sizes | {"n": dataset.attrs.get("n")} | _of_rules(rule)
    found |= {"noise": problem.get("noise"), "seed": dataset.attrs.get("seed")}
    told = {name: value for name, value in found.items() if _is_plain(value)}
    shown = {name: shown_value(x) for name, x in told.items() if _DEFAULTS.get(name) != x}
    return shown | ({"rule": found["rule"]} if found.get("rule") else {})


def _of_rules(stored: dict[str, Any]) -> dict[str, Any]:
    """The name and numbers of a rule; of several, by their labels, those that all share."""
    if not stored or isinstance(stored.get("type"), str):
        return stored | {"rule": _name(stored)}
    first, *rest = map(_of_rules, stored.values())
    return {name: x for name, x in first.items() if all(one.get(name) == x for one in rest)}


def _name(rule: dict[str, Any]) -> str | None:
    """What people call a rule; None for SGD, which is that of most figures."""
    kind, function = rule.get("type"), rule.get("function")
    if function:  # of a user's rule, which has its name
        return str(function.get("callable", function.get("type"))).rpartition(".")[2]
    return None if kind == "SGD" else kind


def _is_plain(value: Any) -> bool:
    """Whether this is a number, or a seed that an integer made: schedules and keys are not told."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
