"""The scorecard on one screen."""

import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray

BUDGET = 0.01
"""A run whose true claims would fail with a larger probability than this has failed: at most one
run in a hundred may raise a false alarm, so that a failure is worth a look."""


def lines(card: "xarray.Dataset") -> list[str]:
    """A line per family of claims, one for each claim that does not hold, a total, and what else
    is wrong with the run."""
    good = card.passed & card.control_rejected
    width = max(len(str(name)) for name in [*card.family.values, "family"])
    text = [f"{'family':{width}}  claims  hold  controls rejected  false alarm     time"]
    for family in np.unique(card.family):
        text.append(_line(str(family), card.isel(claim=card.family.values == family), width))
    text.append(_line("all", card, width))
    text += ["FAILS " + _failure(card.sel(claim=name)) for name in card.claim.values[~good.values]]
    text.append(
        f"{int(good.sum())} of {card.sizes['claim']} claims hold, with their controls rejected; "
        f"true ones would all have held with a probability of {1 - alarm(card):.3%} or more."
    )
    return text + ["FAILS: " + fault for fault in _faults_of_the_run(card)]


def faults(card: "xarray.Dataset") -> list[str]:
    """What is wrong with a run, a sentence each; none where every claim that was selected holds,
    with its control rejected, and true ones were likely enough to."""
    crashed = int(card.crashed.sum())
    failed = int((~(card.passed & card.control_rejected)).sum()) - crashed
    text = [f"{failed} failed."] if failed else []
    text += [f"{crashed} crashed."] if crashed else []
    return text + _faults_of_the_run(card)


def _faults_of_the_run(card: "xarray.Dataset") -> list[str]:
    """The faults that are not those of a claim in the table."""
    unreached, broken = int(card.unreached), json.loads(card.broken)
    text = []
    if unreached:
        text.append(f"{unreached} {'claim was' if unreached == 1 else 'claims were'} not reached.")
    if broken:
        text.append(f"No verdict, because of an error: {', '.join(broken)}.")
    if alarm(card) > BUDGET:
        text.append(
            f"True claims would all have held with a probability of less than {1 - BUDGET:.0%}: "
            "take more runs."
        )
    return text


def alarm(card: "xarray.Dataset") -> float:
    """A bound on how likely some true claim was to fail; 1 where it is not known."""
    # Boole's inequality; NaN, which is unknown, gives 1.
    return float(np.fmin(1.0, card.false_alarm.values.sum()))


def _line(name: str, part: "xarray.Dataset", width: int) -> str:
    return (
        f"{name:{width}}  {part.sizes['claim']:6d}  {int(part.passed.sum()):4d}  "
        f"{int(part.control_rejected.sum()):17d}  {alarm(part):11.1e}  "
        f"{float(part.seconds.sum()):5.0f} s"
    )


def _failure(row: "xarray.Dataset") -> str:
    if bool(row.crashed):
        return f"{row.claim.item()}: crashed; its page says how"
    wrong = [] if bool(row.passed) else ["does not hold"]
    wrong += [] if bool(row.control_rejected) else ["its control was not rejected"]
    return (
        f"{row.claim.item()}: predicted {float(row.predicted):.5g}, measured "
        f"{float(row.measured):.5g} ± {float(row.error):.2g}; {', '.join(wrong)}"
    )
