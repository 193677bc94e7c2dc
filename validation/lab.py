"""Where claims are measured: profiles, seeds, storage, and starting again where one stopped."""

import hashlib
import inspect
import os
import time
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from validation.claims import Claim, Draw, Judge, Measure, Verdict, to_attributes

from learndyn.datasets import provenance

PROFILES = ("quick", "standard", "full")


class Lab:
    """Measures claims, stores what it found, and does not measure twice what it has.

    A stored claim is used again where neither its file, the library, this folder, the profile,
    the seed nor the device has changed.
    """

    def __init__(self, output: Path, profile: str, seed: int, *, fresh: bool):
        self.output, self.profile, self.seed, self.fresh = output, profile, seed, fresh
        for folder in ("data", "figures"):
            (output / folder).mkdir(parents=True, exist_ok=True)

    def pick(self, quick: Any, standard: Any, full: Any) -> Any:
        """The value for the chosen profile."""
        return dict(zip(PROFILES, (quick, standard, full), strict=True))[self.profile]

    def skip_in_quick(self, when: bool = True) -> None:
        """Leave a claim, or a variant of one, to the larger profiles."""
        if when and self.profile == "quick":
            pytest.skip("not in the quick profile")

    def key(self, name: str) -> jax.Array:
        """A random key of its own for each claim, from the suite's seed."""
        return jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(name.encode()))

    def settle(self, claim: Claim, measure: Measure, judge: Judge, draw: Draw) -> Verdict:
        """Measure (or reuse) a claim, judge it, draw it, store all that, and assert it.

        `judge` and `draw` take the dataset alone, so that they can be run again later.
        """
        path = self.output / "data" / f"{claim.id}.nc"
        fingerprint = _fingerprint(_test_file(), self)
        dataset = self._stored(path, fingerprint)
        if dataset is None:
            dataset = self._measured(measure, fingerprint)
            _save(dataset, path)  # before it is judged: what was measured is never lost
        verdict = judge(dataset)
        dataset = dataset.assign_attrs(to_attributes(claim, verdict))
        _save(dataset, path)
        _draw(draw, dataset, self.output / "figures" / f"{claim.id}.png")
        _assert(claim, verdict)
        return verdict

    def _stored(self, path: Path, fingerprint: str) -> xr.Dataset | None:
        if self.fresh or not path.exists():
            return None
        with xr.open_dataset(path, engine="h5netcdf") as stored:
            same = stored.attrs.get("fingerprint") == fingerprint
            return stored.load() if same else None

    def _measured(self, measure: Measure, fingerprint: str) -> xr.Dataset:
        started = time.perf_counter()
        dataset = measure()
        return dataset.assign_attrs(
            provenance()
            | {
                "seconds": time.perf_counter() - started,
                "fingerprint": fingerprint,
                "profile": self.profile,
                "seed": self.seed,
            }
        )


def _test_file() -> Path:
    """The file of the test that is settling a claim, wherever its measurement is written."""
    files = (Path(frame.filename) for frame in inspect.stack(context=0))
    return next(file for file in files if file.name.startswith("test_"))


def _fingerprint(file: Path, lab: Lab) -> str:
    """Changes where anything a claim depends on does; figures and reports do not count."""
    import learndyn

    digest = hashlib.sha256(f"{lab.profile} {lab.seed} {jax.default_backend()}".encode())
    library = Path(learndyn.__file__).parent
    shared = [
        Path(__file__).parent / name for name in ("experiments.py", "ensembles.py", "errata.py")
    ]
    for source in sorted(library.rglob("*.py")):
        if source.relative_to(library).parts[0] not in ("plot", "cli.py", "cli"):
            digest.update(source.read_bytes())
    for source in (*shared, file):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _save(dataset: xr.Dataset, path: Path) -> None:
    # Whole or not at all: a run may be stopped at any moment.
    partial = path.with_suffix(f".{os.getpid()}.part")
    dataset.to_netcdf(partial, engine="h5netcdf")
    partial.replace(path)


def _draw(draw: Draw, dataset: xr.Dataset, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = draw(dataset)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _assert(claim: Claim, verdict: Verdict) -> None:
    assert np.isfinite([verdict.measured, verdict.error]).all(), f"{claim.id}: {verdict.detail}"
    assert verdict.passed, f"{claim.id} FAILED: {verdict.detail} Rule: {claim.rule}"
    assert verdict.control_rejected, (
        f"{claim.id}: its negative control was NOT rejected, so it shows nothing. Control: "
        f"{claim.control} {verdict.detail}"
    )
