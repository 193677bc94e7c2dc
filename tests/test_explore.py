"""The interactive page: its numbers, and that it moves. How it looks, a person has to judge."""

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import numpy as np
import pytest
import xarray as xr

import learndyn as ld
from learndyn import plot
from learndyn.cli import main
from learndyn.plot._film import _ffmpeg

ALPHA = np.linspace(0.0, 10.0, 11)
STUB = Path(browser.__file__).with_name("page_stub.js")
DATA = Path(__file__).parent / "data" / "schema-1"
MOST = 3_000_000


def run(alpha=ALPHA, level="chain", k=2, m=3, n=100, **axes):
    """A dataset of a run, with one dimension for each of axes; every number is different."""
    random = np.random.default_rng(0)
    sizes = {name: len(values) for name, values in axes.items()}

    def variable(*own):
        shape = (*sizes.values(), len(alpha), *own)
        return np.exp(-0.3 * alpha).reshape(-1, *[1] * len(own)) * random.uniform(0.5, 1.5, shape)

    dims = (*sizes, "alpha")
    return xr.Dataset(
        {
            "eg": (dims, variable()),
            "R": ((*dims, "student", "teacher"), variable(k, m) - 0.5),
            "Q": ((*dims, "student", "student_"), variable(k, k)),
            "T": (("teacher", "teacher_"), np.eye(m)),
            "v": ((*dims, "student"), variable(k)),
            "result": (tuple(sizes), np.zeros(tuple(sizes.values()), np.int8)),
        },
        {"alpha": alpha, **axes},
        {"level": level, "n": n},
    )


def swept():
    """Two swept dimensions and runs, as `sweep` orders them."""
    return run(lr=[0.1, 0.2, 0.4], noise=[0.0, 0.1], seed=[0, 1, 2, 3])


def data_of(page):
    text = page.html.split('id="data">')[1].split("</script>")[0]
    return json.loads(text)


def unpacked(packed):
    values = np.frombuffer(base64.b64decode(packed["f32"]), "<f4")
    return xr.DataArray(values.reshape(packed["shape"]), dims=packed["dims"])


def maps(data, which=0):
    return {one["name"]: unpacked(one["values"]) for one in data["sets"][which]["maps"]}


class TestNumbers:
    def test_matrices_are_those_of_the_dataset(self):
        ds = run()
        data = data_of(plot.explore(ds))
        found = maps(data)
        assert list(found) == ["R", "Q", "T", "v"]
        for name in ("R", "Q", "v"):
            np.testing.assert_allclose(found[name], ds[name], rtol=1e-6)
        assert data["time"]["frames"] == ALPHA.tolist()
        assert data["runs"] == []
        assert data["axes"] == data["notes"] == []

    def test_a_sweep_has_a_slider_for_each_dimension_and_the_band_of_its_runs(self):
        ds = swept()
        data = data_of(plot.explore(ds))
        labels = [(one["label"], one["values"]) for one in data["axes"]]
        assert labels == [("lr (η)", ["0.1", "0.2", "0.4"]), ("noise (σ)", ["0", "0.1"])]
        assert data["runs"] == ["0", "1", "2", "3"]  # as the dataset numbers them
        (curve,) = data["curves"]
        for name, q in (("low", 0.16), ("median", 0.5), ("high", 0.84)):
            expected = ds.eg.quantile(q, "seed").transpose("lr", "noise", "alpha")
            np.testing.assert_allclose(unpacked(curve[name]), expected, rtol=1e-6)
        assert maps(data)["Q"].dims[:4] == ("lr", "noise", "seed", "frame")

    def test_the_predicted_band_is_that_of_runs_of_the_experiments_n(self):
        theory = run(level="fluctuations", n=None).drop_attrs().assign_attrs(level="fluctuations")
        theory["eg_std"] = 3.0 * theory.eg
        curves = data_of(plot.explore(run(n=400), theory))["curves"]
        assert [curve["theory"] for curve in curves] == [False, True]
        high = unpacked(curves[1]["high"])
        np.testing.assert_allclose(high, theory.eg * (1 + 3.0 / 20.0), rtol=1e-6)
        assert "band" not in curves[0]

    def test_theory_has_the_times_of_the_run(self):
        theory = run(alpha=np.linspace(0.0, 10.0, 101), level="ode")
        data = data_of(plot.explore(run(), theory))
        np.testing.assert_allclose(maps(data, 1)["R"], theory.R[::10], rtol=1e-6)

    def test_layers_of_a_gradient_flow(self):
        t = np.linspace(0.0, 2.0, 5)
        w = np.arange(30.0).reshape(5, 2, 3)
        ds = xr.Dataset(
            {
                "loss": ("t", np.exp(-t)),
                "speed": ("t", t),
                "w1": (("t", "hidden", "input"), w),
                "velocity_w1": (("t", "hidden", "input"), w),
                "wide": (("t", "wide_0"), np.zeros((5, 500))),
            },
            {"t": t},
        )
        data = data_of(plot.explore(ds))
        assert list(maps(data)) == ["w1"]
        np.testing.assert_array_equal(maps(data)["w1"], w)


class TestFile:
    def test_a_run_of_300_times_is_below_3_mb_and_needs_no_network(self):
        many = np.linspace(0.0, 300.0, 301)
        ds = run(alpha=many, k=10, m=10)
        page = plot.explore(ds, run(alpha=many, k=10, m=10, level="ode"))
        assert len(page.html.encode()) < MOST
        assert len(data_of(page)["time"]["frames"]) == 301
        for address in ("http", "src=", "@import", "url("):
            assert address not in page.html.split('id="data">')[0]
            assert address not in page.html.rsplit("<script>")[-1]

    def test_a_large_sweep_keeps_fewer_times_and_runs_and_says_so(self):
        ds = run(alpha=np.linspace(0, 1, 201), k=6, m=6, lr=np.arange(20.0), seed=np.arange(30))
        page = plot.explore(ds)
        assert len(page.html.encode()) < MOST
        data = data_of(page)
        assert 2 <= len(data["time"]["frames"]) < 201
        assert len(data["runs"]) < 30
        assert any("times" in note for note in data["notes"])
        assert any("of 30 runs" in note for note in data["notes"])

    def test_names_cannot_end_the_script(self):
        page = plot.explore(run().assign_attrs(level="</script><b>"))
        assert page.html.count("</script>") == 2
        assert "<b>" not in page.html
        assert data_of(page)["curves"][0]["name"] == "</script><b>"

    def test_a_notebook_shows_it_in_a_frame(self):
        page = plot.explore(run())
        frame = page._repr_html_()
        assert html.unescape(frame.split('srcdoc="')[1].split('"')[0]) == page.html
        assert "MB" in repr(page)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((xr.Dataset({"times": ("jump", [1.0])}),), "jumps are drawn by"),
            ((3.0,), "must be a dataset"),
            ((run(lr=[0.1, 0.2]), run(lr=[0.1, 0.3])), "same values of 'lr'"),
            ((run(), xr.Dataset({"loss": ("t", [1.0])}, {"t": [0.0]})), "the same kind"),
        ],
    )
    def test_what_it_cannot_show(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            plot.explore(*arguments)

    def test_the_ending_is_html(self, tmp_path):
        with pytest.raises(ValueError, match=r"must end in \.html"):
            plot.explore(run()).save(tmp_path / "page.pdf")


def test_the_command_writes_a_page_and_replaces_none_without_force(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ld.save(run(), "run.nc")
    ld.save(run(level="ode"), "run-ode.nc")
    assert main(["explore", "run.nc", "-o", "page.html"]) == 0
    assert "run-ode.nc" in capsys.readouterr().out
    written = Path("page.html").read_text("utf-8")
    assert written == plot.explore(run(), run(level="ode")).html
    with pytest.raises(SystemExit):
        main(["explore", "run.nc", "-o", "page.html"])
    assert "--force" in capsys.readouterr().err
    assert main(["explore", "run.nc", "--theory", "run.nc", "-o", "page.html", "--force"]) == 0
    assert Path("page.html").read_text("utf-8") == plot.explore(run(), run()).html


def test_the_command_loads_no_jax(tmp_path):
    script = f"""
import sys
from learndyn.cli import main
main(["explore", {str(DATA / "chain.nc")!r}, "-o", {str(tmp_path / "page.html")!r}])
heavy = {{"jax", "equinox", "diffrax", "matplotlib"}}
assert heavy.isdisjoint(sys.modules), heavy & set(sys.modules)
"""
    kept = {name: value for name, value in os.environ.items() if name != "EAGER_IMPORT"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=kept)
    assert done.returncode == 0, done.stderr
    assert "overlap chain" in (tmp_path / "page.html").read_text("utf-8").lower()


class TestFilm:
    def test_a_frame_for_each_time(self, tmp_path, monkeypatch, capsys):
        from PIL import Image

        monkeypatch.chdir(tmp_path)
        ld.save(run(alpha=ALPHA[:3], k=2, m=2), "run.nc")
        assert main(["animate", "run.nc"]) == 0
        assert "run.gif" in capsys.readouterr().out
        with Image.open("run.gif") as film:
            assert film.n_frames == 3
        with pytest.raises(SystemExit):
            main(["animate", "run.nc"])
        assert "--force" in capsys.readouterr().err

    @pytest.mark.skipif(_ffmpeg() is None, reason="ffmpeg is not installed")
    def test_an_mp4_is_a_film_of_as_many_frames(self, tmp_path):
        path = plot.animate(run(alpha=ALPHA[:3], k=2, m=2), tmp_path / "run.mp4")
        assert b"ftyp" in path.read_bytes()[:16]  # the first box of an MP4 file
        asked = [_ffmpeg(), "-i", path, "-f", "null", "-"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=60)
        assert told.returncode == 0, told.stderr
        assert re.findall(r"frame=\s*(\d+)", told.stderr)[-1] == "3"

    def test_what_it_cannot_film(self, tmp_path, monkeypatch):
        with pytest.raises(ValueError, match=r"must end in \.gif or \.mp4"):
            plot.animate(run(), tmp_path / "run.avi")
        with pytest.raises(ValueError, match="one value of each"):
            plot.animate(run(lr=[0.1, 0.2]), tmp_path / "run.gif")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
        with pytest.raises(OSError, match=r"needs the program ffmpeg.*pip install imageio-ffmpeg"):
            plot.animate(run(), tmp_path / "run.mp4")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
class TestScript:
    """The script without a browser: what it draws changes as it should."""

    def test_sliders_keys_and_film_move_the_picture(self, tmp_path):
        page = plot.explore(swept(), run(level="ode", lr=[0.1, 0.2, 0.4])).save(tmp_path / "p.html")
        answer = subprocess.run(["node", STUB, page], capture_output=True, text=True, timeout=60)
        assert answer.returncode == 0, answer.stderr
        seen = json.loads(answer.stdout)
        assert len(seen["first"]["curve"]) == 2
        assert seen["axis"]["curve"] != seen["first"]["curve"]
        assert seen["axis"]["cells"] != seen["first"]["cells"]
        assert seen["time"]["curve"] == seen["first"]["curve"]
        assert seen["time"]["cells"] != seen["first"]["cells"]
        assert "α = 3:" in seen["time"]["text"]
        assert "α = 4:" in seen["right"]["text"]
        assert (seen["playing"], seen["paused"]) == ("Pause", "Play")
        assert "α = 5:" in seen["played"]["text"]
        texts = json.dumps(seen)
        assert "NaN" not in texts
        assert "undefined" not in texts


@pytest.mark.skipif(browser.chromium() is None, reason="Chromium is not installed")
class TestBrowser:
    """The same in a real one, on a dark phone."""

    def test_it_moves_without_complaints(self, tmp_path):
        ds = swept()
        page = plot.explore(ds, run(level="ode", lr=[0.1, 0.2, 0.4])).save(tmp_path / "p.html")
        with browser.tab(page, tmp_path / "browser", width=390, height=844, dark=True) as tab:
            assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
            assert tab.run("document.documentElement.scrollWidth") <= 390
            assert tab.run("document.querySelectorAll('input[type=range]').length") == 4
            labels = "[...document.querySelectorAll('input')].every(x => x.labels.length > 0)"
            assert tab.run(labels)
            # The numbers of a short logarithmic axis are round.
            numbers = "[...document.querySelectorAll('#curve [text-anchor=end]')]"
            marks = tab.run(f"{numbers}.map(x => x.textContent)")
            assert len(marks) > 1
            assert all(re.fullmatch(r"(0\.0*)?[125]0*", mark) for mark in marks), marks
            curve = "document.querySelector('.median.run').getAttribute('d')"
            cells = (
                "[...document.querySelectorAll('.cell')].map(x => x.getAttribute('fill')).join()"
            )
            first, coloured = tab.run(curve), tab.run(cells)
            tab.run(_moved("axis-lr", 2))
            assert tab.run(curve) != first
            tab.run(_moved("axis-lr", 0))
            assert (tab.run(curve), tab.run(cells)) == (first, coloured)
            tab.run(_moved("axis-noise", 1))
            tab.run(_moved("axis-seed", 3))
            tab.run(_moved("time", 2))
            assert tab.run(cells) != coloured
            chosen = ds.isel(noise=1, seed=3, alpha=2, lr=0)
            number = tab.run("document.querySelector('.value').textContent").replace("−", "-")
            assert float(number) == pytest.approx(float(chosen.R[0, 0]), abs=5.1e-3)
            tab.run("document.activeElement.blur()")
            tab.press("ArrowRight")
            assert tab.run("document.getElementById('time').value") == "3"
            tab.press(" ")
            assert tab.run("document.getElementById('play').textContent") == "Pause"
            tab.press(" ")
            assert tab.run("document.getElementById('play').textContent") == "Play"
            assert tab.run("performance.getEntriesByType('resource').length") == 0
            assert tab.complaints == []

    def test_a_notebooks_frame_is_as_high_as_the_page_in_it(self, tmp_path):
        notebook = tmp_path / "notebook.html"
        shown = plot.explore(run())._repr_html_()
        notebook.write_text(f"<!doctype html><meta charset=utf-8>{shown}", encoding="utf-8")
        with browser.tab(notebook, tmp_path / "browser") as tab:
            tab.wait("document.querySelector('iframe').style.height !== '900px'")
            page = "document.querySelector('iframe').contentDocument"
            height = tab.run(f"{page}.body.getBoundingClientRect().height")
            assert tab.run("document.querySelector('iframe').clientHeight") == np.ceil(height)
            assert 400 < height < 900


def _moved(id_, value):
    """What a person's hand on a slider does."""
    slider = f"document.getElementById('{id_}')"
    return f"{slider}.value = {value}; {slider}.dispatchEvent(new Event('input'))"
