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
    """k, m, n, rates, decay, batch, momentum, noise and seed, where they are known and are the same
    in all datasets and runs; "" where nothing is."""
    given = list(datasets)
    swept = {name for one in given for name in str(one.attrs.get("swept", "")).split()}
    found = [_quantities(one) for one in given]
    # The theory has no n and no seed: those that have a value say it.
    values = {name: {one[name] for one in found if name in one} for one in found for name in one}
    alike = {name: x.pop() for name, x in values.items() if len(x) == 1 and name not in swept}
    return ", ".join(_word(name, alike[name]) for name in _ORDER if name in alike)


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
    return f"seed {value}" if name == "seed" else f"{symbol(name)} = {value}"


_RATES = ("lr", "lr_second", "lr_bias", "weight_decay", "batch_size", "momentum")

_ORDER = ("k", "m", "n", *_RATES, "noise", "seed")
"""The order in which the line names quantities."""

_DEFAULTS = {"noise": 0.0, "weight_decay": 0.0, "batch_size": 1}
"""What a line leaves out: it is there in most settings, and says nothing."""


def _quantities(dataset: Any) -> dict[str, str]:
    sizes = {"k": dataset.sizes.get("student"), "m": dataset.sizes.get("teacher")}
    rule, problem = (json.loads(dataset.attrs.get(name, "{}")) for name in ("rule", "problem"))
    found = sizes | {"n": dataset.attrs.get("n")} | {name: rule.get(name) for name in _RATES}
    found |= {"noise": problem.get("noise"), "seed": dataset.attrs.get("seed")}
    told = {name: value for name, value in found.items() if _is_plain(value)}
    return {name: shown_value(x) for name, x in told.items() if _DEFAULTS.get(name) != x}


def _is_plain(value: Any) -> bool:
    """Whether this is a number, or a seed that an integer made: schedules and keys are not told."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
