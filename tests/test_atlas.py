"""The atlas: published figures run again, and their numbers agree."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import learndyn as ld
from learndyn.atlas import Entry, Panel, Publication, drawn_start, start
from learndyn.atlas._entry import numbers
from learndyn.atlas._measure import ensemble, labelled, mean_and_error
from learndyn.atlas._outcome import outcome
from learndyn.atlas._starts import RECIPES
from learndyn.cli import main
from learndyn.cli._reproduce import ReproduceCommand

BY_DAY = ["goldt2020-eq11-13"]
"""Entries of closed forms, seconds together; the others run nightly."""

NAMES = [entry.name for entry in ld.atlas.entries()]


@pytest.mark.nightly(by_day=BY_DAY)
@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_agree(name):
    found = ld.atlas.reproduce(name, quick=True)
    assert found.rows
    assert not found.unexplained, "\n".join(found.lines())
    figure = found.figure()
    assert figure.axes
    assert ld.atlas.entry_of(name).claim in "".join(figure.texts[0].get_text().split("\n"))
    json.loads(found.to_dataset().attrs["settings"])


def test_there_are_entries_of_many_publications():
    known = ld.atlas.entries()
    assert len({entry.name for entry in known}) == len(known)
    for entry in known:
        assert entry.name.startswith(f"{entry.publication.name}-")
        assert set(entry.quick) <= set(entry.settings)
        assert json.dumps(dict(entry.settings))
        assert entry.published


def toy(published, run):
    publication = Publication("toy2020", "Toy 2020")
    panel = Panel("eg", "l")
    return Entry(
        "toy2020-fig1", publication, "a toy", "S", "a", {"l": (0, 1)}, run, published, (panel,)
    )


def settled(published, **variables):
    """The rows of an outcome whose run found these variables along l = 0, 1."""
    entry = toy(published, run=lambda s: None)
    values = {name: ("l", x) for name, x in variables.items()}
    return outcome(entry, entry.settings, False, False, labelled(values, l=[0, 1])).rows


@pytest.mark.parametrize(
    ("value", "kind", "agrees"),
    [
        ("0.50004", "own", True),
        ("0.50006", "own", False),
        ("0.5004", "printed", True),
        ("0.5007", "printed", False),
        ("0.51", "read off", True),
        ("0.52", "read off", False),
        ("0.5", "own", True),
        ("0.51", "own", False),
        ("5e-1", "stored", True),
    ],
)
def test_a_number_agrees_within_the_margin_of_its_kind_or_half_of_its_last_digit(
    value, kind, agrees
):
    (row,) = settled(numbers("eg", value, {"l": [1]}, kind=kind), eg=[0.4, 0.5])
    assert row.measured.measured == 0.5
    assert row.agrees == agrees


def test_a_simulation_without_number_agrees_with_theory_within_three_errors():
    published = numbers("eg", "", {"l": [0, 1]}, kind="shown")
    near, far = settled(published, eg=[1.2, 1.4], eg_predicted=[1.0, 1.0], eg_error=[0.1, 0.1])
    assert (near.unit, near.agrees, far.agrees) == ("s.e.", True, False)


def test_what_a_run_did_not_find_is_missed_and_where_it_did_not_go_is_left_out():
    (row,) = settled(numbers("eg", "0.5 0.5", {"l": [1, 7]}), eg=[0.5, np.nan])
    assert not row.agrees


def test_labels_of_a_short_logarithmic_axis_do_not_touch():
    panel, published = Panel("eg", "l", log="x"), numbers("eg", "0.5", {"l": [128]})
    entry = dataclasses.replace(toy(published, run=lambda s: None), panels=(panel,))
    found = labelled({"eg": ("l", [0.5, 0.6, 0.7])}, l=[128, 512, 2048])
    figure = outcome(entry, entry.settings, False, False, found).figure()
    figure.canvas.draw()
    places = sorted(at.extents[::2].tolist() for at in named_ticks(figure.axes[0]))
    assert len(places) == 4  # 200, 500, 1000, 2000
    assert all(left[1] < right[0] for left, right in itertools.pairwise(places))


def named_ticks(ax):
    """Where the labels of ticks in view stand, in pixels."""
    low, high = ax.get_xlim()
    labels = ax.xaxis.get_ticklabels(which="both")
    shown = [one for one in labels if one.get_text() and low <= one.get_position()[0] <= high]
    return [label.get_window_extent() for label in shown]


def test_settings_of_ones_own_move_the_numbers():
    plain = ld.atlas.reproduce("goldt2020-eq11-13")
    moved = ld.atlas.reproduce("goldt2020-eq11-13", settings={"lr": (0.002, 0.01, 0.04)})
    at = {"m": 2, "l": 3}
    assert float(plain.dataset.ratio_erf.sel(**at, lr=0.05)) > 1.05
    assert 1.04 < float(moved.dataset.ratio_erf.sel(**at, lr=0.04)) < 1.06
    assert not plain.missed
    assert "settings changed by hand" in "\n".join(moved.lines())
    with pytest.raises(ValueError, match="has no setting speed; it has m, l"):
        ld.atlas.reproduce("goldt2020-eq11-13", settings={"speed": 1})


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "changed", "variable"),
    [
        ("goldt2020-fig3c", {"v_teacher": 1.5}, "eg"),
        ("goldt2020-theorem1", {"noise": 0.3}, "distance"),
        ("saadsolla1995prl-fig1", {"t": (1.0, 1.5)}, "eg"),
        ("saadsolla1997-decay", {"lr": 0.2}, "eg"),
        ("simsek2023-copyaverage", {"lr": 0.02}, "final"),
        ("veiga2022-fig3", {"lr": 6.0}, "risk"),
        ("arnaboldi2023-classic", {"Delta": 1e-2}, "risk"),
        ("onlinenote-ridge", {"weight_decay": 0.1}, "eg"),
        ("kunin2024-fig4b", {"y": 1.3}, "first"),
        ("kunin2025-agf-linear", {"scale": 1e-3}, "time"),
        ("chizat2019-lazy", {"y": (0.5, 0.5)}, "kernel"),
        ("yoshida2019-spectrum", {"lr": 0.4}, "eg"),
        ("arnaboldi2023b-exit", {"gamma": 0.08}, "risk"),
        ("jacot2022-regimes", {"singular": (2.0, 1.0, 0.5)}, "way"),
        ("kunin2024-fig1", {"rate": 4e-3}, "kernel"),
    ],
)
def test_every_run_computes_its_numbers_anew(name, changed, variable):
    plain = ld.atlas.reproduce(name, quick=True).dataset[variable].values
    moved = ld.atlas.reproduce(name, quick=True, settings=changed).dataset[variable].values
    known = np.isfinite(plain) & (np.abs(plain) > 0)
    assert np.median(np.abs(moved[known] / plain[known] - 1)) > 1e-3


def test_a_wrong_theory_is_missed(monkeypatch):
    right = ld.asymptotics.eg_specialised
    monkeypatch.setattr(ld.asymptotics, "eg_specialised", lambda *a: 1.001 * right(*a))
    assert len(ld.atlas.reproduce("goldt2020-eq11-13").missed) > 3


def test_a_name_that_is_not_there_is_refused_with_one_that_is_near():
    with pytest.raises(ValueError, match="Is one of goldt2020-fig"):
        ld.atlas.reproduce("goldt2020-fig2")


@pytest.mark.nightly
@pytest.mark.parametrize("name", RECIPES)
def test_stored_starts_are_those_of_their_recipes(name):
    stored, drawn = start(name), drawn_start(**RECIPES[name])
    for field in ("Q", "R", "T", "v", "v_teacher"):
        # Products of orthonormal units are 0 but for rounding, 1e-17, which compilers do not share.
        at_zero = {"rtol": 1e-12, "atol": 1e-15}
        np.testing.assert_allclose(getattr(stored, field), getattr(drawn, field), **at_zero)


@pytest.mark.parametrize("level", ["sgd", "chain"])
def test_an_ensemble_has_runs_from_the_same_overlaps(level):
    problem = ld.Problem(ld.Linear(), ld.Linear())
    state = ld.Overlaps([[0.5]], [[0.1]], [[1.0]])
    runs = ensemble(level, problem, ld.SGD(lr=0.5), state, [0.0, 2.0], n=20, runs=2, seed=0)
    assert (runs.attrs["level"], runs.sizes["seed"]) == (level, 2)
    np.testing.assert_allclose(runs.eg[:, 0], ld.generalisation_error(problem, state), rtol=1e-12)
    assert float(runs.eg[0, 1]) != float(runs.eg[1, 1])


def test_the_error_of_a_mean_is_that_of_independent_runs_or_blocks(rng):
    runs = labelled({"eg": (("seed", "alpha"), rng.normal(size=(16, 400)))}, seed=range(16)).eg
    mean, error = mean_and_error(runs)
    assert abs(mean) < 5 / 80
    assert 0.4 / 80 < error < 2 / 80
    _, of_one = mean_and_error(runs[:1])
    assert 0.3 / 20 < of_one < 2.5 / 20


class TestCommand:
    def test_list_has_one_entry_a_line(self, capsys):
        assert main(["reproduce", "--list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == NAMES
        assert {line.split()[1] for line in lines} == {"reproduces", "phenomenon"}

    def test_list_loads_no_jax(self):
        script = (
            "import sys; from learndyn.cli import main; main(['reproduce', '--list']); "
            "assert not {'jax', 'xarray', 'matplotlib'} & set(sys.modules)"
        )
        plain = {name: x for name, x in os.environ.items() if name != "EAGER_IMPORT"}
        done = subprocess.run([sys.executable, "-c", script], env=plain, capture_output=True)
        assert done.returncode == 0, done.stderr

    def test_a_run_writes_its_dataset_and_pictures_and_prints_its_table(self, tmp_path, capsys):
        arguments = ["reproduce", "goldt2020-eq11-13", "--quick", "-o", str(tmp_path / "out")]
        assert main(arguments) == 0
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == [f"goldt2020-eq11-13.{end}" for end in ("nc", "png", "svg")]
        dataset = ld.load(tmp_path / "out" / "goldt2020-eq11-13.nc")
        assert dataset.attrs["claim"] == "reproduces"
        assert dataset.attrs["missed"] == 0
        assert float(dataset.table_published[0]) == 1.022
        said = capsys.readouterr().out
        assert "claim: reproduces" in said
        assert "predicted               measured    published   difference" in said
        assert "1.02199        1.022   -0.00067 %  own (a)" in said
        with pytest.raises(SystemExit):
            main(arguments)
        assert "would be replaced: add --force" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "name entries, such as goldt2020-fig2a, or give --all or --list"),
            (["--all", "goldt2020-fig2a"], "leave the names out, or --all"),
            (["goldt2020-fig99"], "the atlas has no entry 'goldt2020-fig99'"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, arguments, message, capsys, tmp_path):
        with pytest.raises(SystemExit):
            main(["reproduce", *arguments, "-o", str(tmp_path)])
        assert message in capsys.readouterr().err

    def test_a_missed_number_is_said_and_ends_with_1(self, tmp_path, capsys, monkeypatch):
        closed = ld.asymptotics.eg_specialised
        monkeypatch.setattr(ld.asymptotics, "eg_specialised", lambda *a: 1.01 * closed(*a))
        monkeypatch.setattr(ReproduceCommand, "_write", lambda self, found: None)
        assert main(["reproduce", "goldt2020-eq11-13", "-o", str(tmp_path)]) == 1
        assert "MISSED, limit" in capsys.readouterr().out
