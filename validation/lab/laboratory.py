"""Where claims are measured: profiles, seeds, storage, and starting again where one stopped."""

import ast
import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

import learndyn
from learndyn.claims import Claim, Verdict, to_attributes
from learndyn.datasets import provenance

PROFILES = ("quick", "standard", "full")

LIBRARY, VALIDATION = Path(learndyn.__file__).parent, Path(__file__).parent.parent
PRESENTATION = (
    ("plot", "claims", "cli"),
    ("measure/figures.py", "lab/progress.py", "lab/false_alarms.py"),
)
"""Of the library and of this folder: what no measurement and no verdict depends on."""
PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "equinox", "diffrax")

RECORDED = "The dataset of this claim records it."
"""A note on each exception that reports will find in the claim's dataset."""


Measure = Callable[[], xr.Dataset]
Judge = Callable[[xr.Dataset], Verdict]
Draw = Callable[[xr.Dataset], Any]


class Lab:
    """Measures claims, stores what it found, and does not measure twice what it has.

    A stored claim is used again where neither the test files it comes from, what all claims share
    (`shared_sources`), the profile, the seed nor the device has changed.
    sources: a digest of what all claims share; None: of what lies on the disk now.
    """

    def __init__(
        self, output: Path, profile: str, seed: int, *, fresh: bool, sources: str | None = None
    ):
        self.output, self.profile, self.seed, self.fresh = output, profile, seed, fresh
        self.sources = sources or shared_sources()
        # As they were imported: whoever edits them meanwhile does not change what is measured.
        self._texts = {file: file.read_bytes() for file in VALIDATION.glob("test_*.py")}
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
        """A random key of its own for each claim, from the suite's seed."""
        return jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(name.encode()))

    def settle(self, claim: Claim, measure: Measure, judge: Judge, draw: Draw) -> Verdict:
        """Measure (or reuse) a claim, judge it, draw it, store all that, and assert it.

        `judge` and `draw` take the dataset alone, so that they can be run again later. Where
        measuring or judging ends in an exception, the dataset says so in place of a verdict.
        """
        path, started = self.output / "data" / f"{claim.id}.nc", time.perf_counter()
        fingerprint, dataset = self.fingerprint(_test_file()), None
        try:
            dataset = self._stored(path, fingerprint)
            if dataset is None:
                dataset = self._measured(measure, fingerprint)
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

    def fingerprint(self, file: Path) -> str:
        """Changes where anything that a claim of the test file `file` depends on does."""
        run = (self.profile, self.seed, provenance()["device"], self.sources)
        digest = hashlib.sha256(json.dumps(run).encode())
        for source in self._test_files(file):
            digest.update(self._text(source))
        return digest.hexdigest()[:16]

    def _test_files(self, file: Path) -> list[Path]:
        """A test file and the others that it imports helpers from. The rest is left out, so that
        editing one claim does not measure all of them again."""
        found, left = set(), [file]
        while left:
            one = left.pop()
            if one not in found and (one == file or one.exists()):
                found.add(one)
                left += [one.with_name(f"{name}.py") for name in _imports(self._text(one))]
        return sorted(found)

    def _text(self, file: Path) -> bytes:
        return self._texts[file] if file in self._texts else file.read_bytes()

    def _stored(self, path: Path, fingerprint: str) -> xr.Dataset | None:
        if self.fresh or not path.exists():
            return None
        with xr.open_dataset(path, engine="h5netcdf") as stored:
            same = stored.attrs.get("fingerprint") == fingerprint
            return stored.load() if same else None

    def _measured(self, measure: Measure, fingerprint: str) -> xr.Dataset:
        started = time.perf_counter()
        dataset = measure()
        return dataset.assign_attrs(self._origin(started) | {"fingerprint": fingerprint})

    def _crashed(
        self, claim: Claim, error: Exception, dataset: xr.Dataset | None, started: float
    ) -> xr.Dataset:
        """What is stored in place of a verdict, with what was measured up to then.

        Without a fingerprint: it is never used again. Without a verdict: it is none.
        """
        said = f"{type(error).__name__}: {error}"[:2000]  # XLA may print a whole program
        attributes = {"claim": json.dumps(dataclasses.asdict(claim)), "crash": said}
        found = xr.Dataset() if dataset is None else dataset.copy()
        found.attrs = self._origin(started) | attributes
        return found

    def _origin(self, started: float) -> dict[str, Any]:
        """Attributes: which run, where and when something was measured."""
        run = {"profile": self.profile, "seed": self.seed, "sources": self.sources}
        return provenance() | run | {"seconds": time.perf_counter() - started}


def shared_sources(mutant: str | None = None) -> str:
    """A digest of what all claims share: the library, the helpers of this folder, the versions of
    the packages that decide numbers, and a deliberate fault.

    What only draws and reports is left out. This file counts: its keys and sizes decide numbers.
    """
    outside, aside = PRESENTATION
    files = [
        file for file in LIBRARY.rglob("*.py") if file.relative_to(LIBRARY).parts[0] not in outside
    ]
    files += [
        file
        for folder in ("lab", "measure")
        for file in (VALIDATION / folder).rglob("*.py")
        if file.relative_to(VALIDATION).as_posix() not in aside
    ]
    if mutant:
        files += (VALIDATION / "mutants").glob("*.py")
    versions = [importlib.metadata.version(name) for name in PACKAGES]
    digest = hashlib.sha256(json.dumps([mutant, versions]).encode())
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def is_recorded(error: BaseException) -> bool:
    """Whether reports find this failure in the dataset of its claim."""
    return RECORDED in getattr(error, "__notes__", ())


def _imports(text: bytes) -> Iterator[str]:
    """The test files of this folder that a source imports from, without their endings."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, *parts = name.split(".")
            if package == "validation" and parts[0].startswith("test_"):
                yield parts[0]


def _test_file() -> Path:
    """The file of the test that is settling a claim, wherever its measurement is written."""
    files = (Path(frame.filename) for frame in inspect.stack(context=0))
    return next(file for file in files if file.name.startswith("test_"))


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
