"""Where claims are measured: profiles, seeds, storage, and starting again where one stopped."""

import dataclasses
import json
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from validation.lab.sources import digest

from learndyn.claims import Claim, Verdict, to_attributes
from learndyn.datasets import provenance

PROFILES = ("quick", "standard", "full")

RECORDED = "The dataset of this claim records it."
"""A note on each exception that reports will find in the claim's dataset."""

LONGEST_MESSAGE = 2000
"""Characters of an exception that are stored: XLA may print a whole program."""

Measure = Callable[[], xr.Dataset]
Judge = Callable[[xr.Dataset], Verdict]
Draw = Callable[[xr.Dataset], Any]


class Lab:
    """Measures claims, stores what it found, and does not measure twice what it has.

    A stored claim is used again where neither its own file, what all claims share, the profile,
    the seed nor the device has changed.

    output: the folder of the report. profile: one of `PROFILES`. fresh: measure again what is
    stored. sources: `shared_sources` when the run began. file: digest of the claims' own file, as
    it was when it was imported: whoever edits it meanwhile does not change what is measured.
    """

    def __init__(
        self, output: Path, profile: str, seed: int, *, fresh: bool, sources: str, file: str
    ):
        self.output, self.profile, self.seed, self.fresh = output, profile, seed, fresh
        self.sources, self.file = sources, file
        for folder in ("data", "figures"):
            (output / folder).mkdir(parents=True, exist_ok=True)

    def pick(self, quick: Any, standard: Any, full: Any) -> Any:
        """The value for the chosen profile."""
        return dict(zip(PROFILES, (quick, standard, full), strict=True))[self.profile]

    def skip_in_quick(self, when: bool = True) -> None:
        """Leave a claim, or a variant of one, to the larger profiles."""
        self.skip(when and self.profile == "quick")

    def only_in_full(self) -> None:
        """Leave a claim to the largest profile."""
        self.skip(self.profile != "full")

    def skip(self, when: bool) -> None:
        """Leave a claim, or a variant of one, out of this profile."""
        if when:
            pytest.skip(f"not in the {self.profile} profile")

    def key(self, name: str) -> jax.Array:
        """The random key of a claim, from its name and the suite's seed."""
        return jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(name.encode()))

    def settle(self, claim: Claim, measure: Measure, judge: Judge, draw: Draw) -> Verdict:
        """Measure (or reuse) a claim, judge it, draw it, store all that, and assert it.

        `judge` and `draw` take the dataset alone, so that they can be run again later. Where
        measuring or judging ends in an exception, the dataset says so in place of a verdict.
        """
        path, started = self.output / "data" / f"{claim.id}.nc", time.perf_counter()
        dataset = None
        try:
            dataset = self._stored(path)
            if dataset is None:
                dataset = self._measured(measure)
                _save(dataset, path)  # before it is judged: what was measured is never lost
            verdict = _finite(judge(dataset))
        except Exception as error:
            _save(self._crashed(claim, error, dataset, started), path)
            error.add_note(RECORDED)
            raise
        dataset = dataset.assign_attrs(to_attributes(claim, verdict))
        _save(dataset, path)
        _draw(draw, dataset, self.output / "figures" / f"{claim.id}.png")
        _assert(claim, verdict)
        return verdict

    @property
    def fingerprint(self) -> str:
        """Changes where anything that the claims of this file depend on does."""
        run = self.profile, self.seed, provenance()["device"], self.sources, self.file
        return digest(json.dumps(run).encode())

    def _stored(self, path: Path) -> xr.Dataset | None:
        if self.fresh or not path.exists():
            return None
        with xr.open_dataset(path, engine="h5netcdf") as stored:
            same = stored.attrs.get("fingerprint") == self.fingerprint
            return stored.load() if same else None

    def _measured(self, measure: Measure) -> xr.Dataset:
        started = time.perf_counter()
        dataset = measure()
        return dataset.assign_attrs(self._origin(started) | {"fingerprint": self.fingerprint})

    def _crashed(
        self, claim: Claim, error: Exception, dataset: xr.Dataset | None, started: float
    ) -> xr.Dataset:
        """What is stored in place of a verdict, with what was measured up to then.

        It has no fingerprint, so that it is never used again, and no verdict, since it is none.
        """
        said = f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE]
        attributes = {"claim": json.dumps(dataclasses.asdict(claim)), "crash": said}
        found = xr.Dataset() if dataset is None else dataset.copy()
        found.attrs = self._origin(started) | attributes
        return found

    def _origin(self, started: float) -> dict[str, Any]:
        """Attributes: which run, where and when something was measured."""
        run = {"profile": self.profile, "seed": self.seed, "sources": self.sources}
        return provenance() | run | {"seconds": time.perf_counter() - started}


def is_recorded(error: BaseException) -> bool:
    """Whether reports find this failure in the dataset of its claim."""
    return RECORDED in getattr(error, "__notes__", ())


def _finite(verdict: Verdict) -> Verdict:
    """The verdict; one whose numbers are none has not passed."""
    finite = bool(np.isfinite([verdict.measured, verdict.error]).all())
    return verdict if finite else dataclasses.replace(verdict, passed=False)


def _save(dataset: xr.Dataset, path: Path) -> None:
    # Whole or not at all: a run may be stopped at any moment.
    partial = path.with_suffix(f".{os.getpid()}.part")
    dataset.to_netcdf(partial, engine="h5netcdf")
    partial.replace(path)


def _draw(draw: Draw, dataset: xr.Dataset, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    path.unlink(missing_ok=True)  # one of other data is worse than none
    figure = draw(dataset)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _assert(claim: Claim, verdict: Verdict) -> None:
    if verdict.good:
        return
    said = f"{claim.id} FAILED: {verdict.detail} Rule: {claim.rule}"
    if verdict.passed:
        said = (
            f"{claim.id}: its negative control was NOT rejected, so it shows nothing. Control: "
            f"{claim.control} {verdict.detail}"
        )
    error = AssertionError(said)
    error.add_note(RECORDED)
    raise error
