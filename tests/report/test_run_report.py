import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataunlearn.report import grids, plots
from dataunlearn.report import run_files as run_page
from dataunlearn.report import run_page as page
from dataunlearn.report.grids import save_grid
from dataunlearn.report.pareto import Point, pareto
from dataunlearn.report.run_files import purge_pictures, read_run, write_report
from dataunlearn.report.training_plots import training_figures
from dataunlearn.runtime import files
from dataunlearn.runtime.sealed import sealed

TIMESTEPS = (50, 500)


def fake_report(**changes):
    side = {"regeneration": {"50": 1.0, "500": 1.0}, "regeneration_copies": 32, "num_samples": 512}
    after = side | {
        "regeneration": {"50": 0.5, "500": 0.0},
        "regeneration_interval": {"50": [0.336, 0.664], "500": [0.0, 0.107]},
    }
    contents = {
        "schema": 1,
        "title": "A picture removed",
        "verdict": {"forgotten": True, "quality_kept": None, "text": "The picture is gone."},
        "seconds": 100.0,
        "unlearn_seconds": 74.2,
        "forget": {"count": 1, "names": ["shirt.png"], "digests": ["c" * 64]},
        "keep": {"count": 60000, "source": "digits"},
        "method": {"objective": "SISS(lam=0.5)", "combination": "NormFix(ratio=0.1)", "steps": 9},
        "settings": {"optimizer": {"betas": [0.9, 0.999]}},
        "model": {"before": {"path": "a", "sha256": "a" * 64}},
        "command": "dataunlearn unlearn",
        "threshold": 1.0,
        "before": side,
        "after": after,
    }
    return contents | changes


def quality():
    return {
        "tshirt_frequency": 0.0,
        "tshirt_frequency_interval": [0.0, 0.007],
        "inception_score": 9.4,
        "inception_score_interval": [9.3, 9.5],
        "broken_share": 0.008,
        "broken_share_interval": [0.003, 0.02],
        "mean_confidence": 0.98,
        "class_histogram": [50, 51, 52, 50, 49, 51, 50, 52, 51, 50],
    }


def fake_log(num_steps=70):
    return [
        {
            "step": step,
            "loss_keep": 20.0,
            "loss_forget": 10.0 + step,
            "norm_keep": 1.0,
            "norm_forget": 2.0,
            "cosine": 0.1,
            "u_forget": -0.1,
            **({} if step % 3 else {"restored": 0.25, "damage": 0.01 * step}),
            "ess_keep": {"0-99": 0.5, "100-199": None, "1000-1099": 1.0},
            "ess_forget": None,
        }
        for step in range(1, num_steps + 1)
    ]


def write_run(folder, contents=None, log=None, size=8, channels=1, **arrays):
    rng = np.random.default_rng(0)
    shape = (size, size, channels)
    images = {"forget": 1, "before_samples": 10, "after_samples": 10}
    for t in TIMESTEPS:
        images |= {f"before_regeneration_{t}": 3, f"after_regeneration_{t}": 3}
    stored = {k: rng.integers(0, 256, (n, *shape), dtype=np.uint8) for k, n in images.items()}
    np.savez(folder / "images.npz", **(stored | arrays))
    contents = fake_report() if contents is None else contents
    (folder / "report.json").write_text(json.dumps(contents))
    lines = [json.dumps(record) for record in (log or [])]
    (folder / "log.jsonl").write_text("\n".join(lines))
    return folder


def page_text(folder, **run):
    html = write_report(write_run(folder, **run)).read_text(encoding="utf-8")
    body = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", body)


def test_page_is_self_contained(tmp_path):
    path = write_report(write_run(tmp_path, log=fake_log()))
    html = path.read_text(encoding="utf-8")
    assert path == tmp_path / "report.html"
    sources = re.findall(r'\b(?:src|href)="([^"]*)"', html)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|url\(|@import|<script|<link", html)


def test_text_from_the_run_is_escaped(tmp_path):
    contents = fake_report(
        title="<i>title</i>",
        forget={"count": 1, "names": ["<script>alert(1)</script>.png"], "digests": ["d" * 64]},
        settings={"<b>": ["<u>"]},
    )
    html = write_report(write_run(tmp_path, contents)).read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in html
    assert not re.search(r"<script|<i>|<b>|<u>", html)


@pytest.mark.parametrize(
    ("given", "different", "shown", "said"),
    [
        (1, 1, 1, None),
        (3, 1, 1, "It was given 3 times."),
        (5, 3, 3, "5 were given, 3 of them different."),
        (5, 5, 3, "Shown: 3 of 5 different pictures."),
        (9, 5, 3, "Shown: 3 of 5 different pictures. 9 were given, 5 of them different."),
    ],
)
def test_pictures_that_had_to_go_are_counted(tmp_path, given, different, shown, said):
    digests = [f"{number:064x}" for number in range(different)]
    names = [f"{number}.png" for number in range(different)]
    contents = fake_report(forget={"count": given, "names": names, "digests": digests})
    pictures = np.arange(shown * 64, dtype=np.uint8).reshape(shown, 8, 8, 1)
    text = page_text(tmp_path, contents=contents, forget=pictures)
    if said is None:
        assert "given" not in text.split("The model should draw")[0]
    else:
        assert said in text


@pytest.mark.parametrize("name", ["report.json", "images.npz", "log.jsonl"])
def test_missing_file_is_named(tmp_path, name):
    (write_run(tmp_path) / name).unlink()
    with pytest.raises(ValueError, match=rf"has no {re.escape(name)}; `dataunlearn unlearn`"):
        write_report(tmp_path)


def test_malformed_input_is_named(tmp_path):
    write_run(tmp_path, fake_report(schema=2))
    with pytest.raises(ValueError, match="schema 2"):
        write_report(tmp_path)
    write_run(tmp_path, {k: v for k, v in fake_report().items() if k != "after"})
    with pytest.raises(ValueError, match="has no after"):
        write_report(tmp_path)
    write_run(tmp_path, before_samples=np.zeros((2, 8, 8, 1), dtype=np.float32))
    with pytest.raises(ValueError, match=r"before_samples in .* must be uint8"):
        write_report(tmp_path)
    write_run(tmp_path, forget=np.zeros((0, 8, 8, 1), dtype=np.uint8))
    with pytest.raises(ValueError, match="no pictures in forget"):
        write_report(tmp_path)
    (write_run(tmp_path) / "log.jsonl").write_text('{"step": 1}\n{"step": ')
    with pytest.raises(ValueError, match="line 2 of"):
        write_report(tmp_path)
    (write_run(tmp_path) / "images.npz").write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"images\.npz cannot be read"):
        write_report(tmp_path)


def test_a_number_that_was_changed_is_noticed(tmp_path):
    file = write_run(tmp_path, sealed(fake_report())) / "report.json"
    write_report(tmp_path)
    file.write_text(file.read_text().replace("true", "false", 1))
    with pytest.raises(ValueError, match=r"report\.json is damaged: its checksum is another"):
        write_report(tmp_path)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.999])
def test_damaged_pictures_are_named(tmp_path, place):
    file = write_run(tmp_path) / "images.npz"
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    file.write_bytes(bytes(content))
    try:
        write_report(tmp_path)  # a byte that nothing depends on may be any
    except ValueError as error:
        assert "images.npz" in str(error)


def test_names_that_are_no_text_are_written_out(tmp_path):
    contents = fake_report(forget={"count": 1, "names": ["caf\udce9.png"], "digests": ["d" * 64]})
    assert r"caf\udce9.png" in write_report(write_run(tmp_path, contents)).read_text()


@pytest.mark.parametrize("text", [r"costs $5 or \frac{$ more", "$\\frac{$", "$x$"])
def test_a_dollar_in_a_plot_is_a_dollar(text):
    curve = plots.Curve(text, plots.AFTER, {1: 0.5}, {})
    assert plots.regeneration_curve([curve])
    assert plots.level_curve([curve], None)
    points = [Point(text, 1, 1), Point("other", 2, 2)]
    assert pareto(points, text, text, True)


def test_success_wording(tmp_path):
    verdict = {"forgotten": True, "quality_kept": True, "text": "Gone, and it draws well."}
    contents = fake_report(verdict=verdict)
    contents["before"] = contents["before"] | {"tshirt_frequency": 0.012, "broken_share": 0.006}
    contents["after"] = contents["after"] | quality()
    text = page_text(tmp_path, contents=contents)
    assert "Gone, and it draws well." in text
    assert "The picture: ✓ no longer reproduced Quality of other pictures: ✓ kept" in text
    assert "100 % → 0 %" in text
    assert "0 of 32 tries (10.7 % or less)" in text
    assert "0 of 512 drawings (0.7 % or less)" in text
    assert "16 of 32 tries (between 33.6 % and 66.4 %)" in text  # the worst timestep is not hidden
    assert "Inception score" in text
    assert "What this report does not prove" in text


@pytest.mark.parametrize("settings", [{}, {"evaluation": {"frequency_name": "shoes_seen"}}])
def test_the_share_of_copies_is_shown_whatever_it_is_called(tmp_path, settings):
    name = "shoes_seen" if settings else "shoe_frequency"
    contents = fake_report(settings=settings)
    contents["before"] = contents["before"] | {name: 0.25}
    contents["after"] = contents["after"] | {name: 0.0, f"{name}_interval": [0.0, 0.007]}
    text = page_text(tmp_path, contents=contents)
    assert "0 of 512 drawings (0.7 % or less)" in text
    assert "The picture among drawings" in text
    assert "25 % → 0 %" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("It still draws it.", "It still draws it."), ("", "The picture is not gone from the model.")],
)
def test_failure_wording(tmp_path, text, shown):
    verdict = {"forgotten": False, "quality_kept": False, "text": text}
    found = page_text(tmp_path, contents=fake_report(verdict=verdict))
    assert shown in found
    assert "The picture: ✗ still known Quality of other pictures: ✗ lost" in found
    unsure = {**verdict, "quality_worse": False}
    found = page_text(tmp_path, contents=fake_report(verdict=unsure))
    assert "The picture: ✗ still known Quality of other pictures: cannot tell" in found
    assert "✓" not in found
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'class="banner bad"' in html


@pytest.mark.parametrize(
    ("memory", "quality", "tone", "marks"),
    [
        ("as if never seen", "kept", "good", ("✓ ", "✓ ")),
        ("as if never seen", "cannot tell", "fair", ("✓ ", "")),
        ("as if never seen", "lost", "bad", ("✓ ", "✗ ")),
        ("pushed past it", "kept", "fair", ("", "✓ ")),
        ("cannot tell", "kept", "fair", ("", "✓ ")),
        ("still known", "kept", "bad", ("✗ ", "✓ ")),
    ],
)
def test_both_answers_are_shown(tmp_path, memory, quality, tone, marks):
    verdict = {
        "memory": memory,
        "quality": quality,
        "forgotten": memory in ("as if never seen", "pushed past it"),
        "quality_kept": quality == "kept",
        "level_band": [0.5, 2.0],
        "text": "All that can be said.",
        "quality_findings": [{"quality": quality, "words": "the loss is what it was"}],
    }
    text = page_text(tmp_path, contents=fake_report(verdict=verdict))
    assert "All that can be said." in text
    expected = f"The picture: {marks[0]}{memory} Quality of other pictures: {marks[1]}{quality}"
    assert expected in text
    assert f"Does the model still draw well? {marks[1]}{quality} : the loss is what" in text
    assert "Picture quality was not measured" not in text
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f'class="banner {tone}"' in html


def over_level(*ratios):
    return {
        "over_level": {
            "timesteps": [100, 300],
            "mean": list(ratios),
            "intervals": [[ratio / 1.2, ratio * 1.2] for ratio in ratios],
            "by_image": [1.0],
        }
    }


@pytest.mark.parametrize("reference", [None, {"label": "never saw it", **over_level(1.0, 0.9)}])
def test_losses_over_levels_are_drawn(tmp_path, reference):
    title = "What the model loses on the picture, over what a model that never saw it would lose"
    contents = fake_report(reference=reference)
    assert title not in page_text(tmp_path, contents=contents | {"reference": None})
    contents["before"] = contents["before"] | over_level(0.01, 0.1)
    contents["after"] = contents["after"] | over_level(0.9, float("nan"))
    contents["verdict"] = contents["verdict"] | {"level_band": [0.5, 2.0]}
    assert title in page_text(tmp_path, contents=contents)


@pytest.mark.parametrize(
    ("unfamiliar", "mixed", "same", "alone"),
    [
        ([False], [True], "The picture looks the same", None),
        ([True], [True], None, "The picture is unlike all pictures to keep"),
        ([True, False, True], [True] * 3, "1 of the 3 pictures look", "2 of the 3 pictures are"),
        ([True], [False], None, None),
        ([True], None, None, None),  # a report of before
    ],
)
def test_pictures_whose_views_tell_little_are_told(tmp_path, unfamiliar, mixed, same, alone):
    facts = {"unfamiliar": unfamiliar} | ({} if mixed is None else {"mixed_with_keep": mixed})
    text = page_text(tmp_path, contents=fake_report(recognition=facts))
    assert ("the same to the model however turned" in text) == (same is not None)
    assert ("unlike all pictures to keep" in text) == (alone is not None)
    assert all(said is None or said in text for said in (same, alone))


def test_absent_optional_keys(tmp_path):
    contents = {"schema": 1, "verdict": {"forgotten": True}, "forget": {}, "method": {}}
    contents |= {"before": {}, "after": {}}
    text = page_text(tmp_path, contents=contents, log=[{"step": 1}, {}])
    assert "The picture is gone from the model." in text
    assert "Quality of other pictures: not measured" in text
    assert "Picture quality was not measured in this run" in text
    assert "Errors on both sides" not in text
    assert "None" not in text
    assert "Undefined" not in text


def test_absent_log_values_leave_the_plot_out(tmp_path):
    text = page_text(tmp_path, log=fake_log())
    assert "Usable pictures: keep" in text
    assert "Usable pictures: forget" not in text  # null in every record
    assert "Errors on both sides" in text


@pytest.mark.parametrize(("size", "channels"), [(64, 3), (256, 3), (28, 1)])
def test_grids_fit_half_the_page(tmp_path, size, channels):
    html = write_report(write_run(tmp_path, size=size, channels=channels)).read_text("utf-8")
    widths = [int(width) for width in re.findall(r'width="(\d+)"', html)]
    assert max(widths) <= 554
    assert ('class="pixels"' in html) == (size <= 64)


def test_reference_is_drawn_and_tabled(tmp_path):
    reference = {"label": "never saw it", "regeneration": {"50": 0.25, "500": 0.0}}
    text = page_text(tmp_path, contents=fake_report(reference=reference))
    assert "Never saw it" in text
    assert "a model that never saw the picture: 25 %" in text


def test_other_runs_stand_beside(tmp_path):
    """Their numbers join tables and figures, their verdicts and samples have a section."""
    mine, theirs = (tmp_path / name for name in ("mine", "theirs"))
    for folder in (mine, theirs):
        folder.mkdir()
    alone = page_text(mine)
    contents = fake_report(
        method={"objective": "NegGrad()", "steps": 9},
        verdict={
            "forgotten": True,
            "memory": "pushed past it",
            "quality": "lost",
            "text": "Worse.",
        },
        after={"regeneration": {"50": 0.125, "500": 0.0}},
    )
    write_run(theirs, contents=contents)
    page = write_report(mine, [theirs]).read_text("utf-8")
    assert "removed otherwise" not in alone
    assert "The same picture, removed otherwise" in page
    assert "<th>NegGrad</th>" in page
    assert "12.5" in page
    for said in ("pushed past it", "Worse.", "drawings after NegGrad"):
        assert said in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"forget": {"digests": ["d" * 64]}}, "about other forget images"),
        ({"model": {"before": {"sha256": "b" * 64}}}, "about another model"),
    ],
)
def test_runs_about_something_else_do_not_stand_beside(tmp_path, changes, said):
    mine, theirs = (tmp_path / name for name in ("mine", "theirs"))
    for folder, contents in ((mine, None), (theirs, fake_report(**changes))):
        folder.mkdir()
        write_run(folder, contents=contents)
    with pytest.raises(ValueError, match=said):
        write_report(mine, [theirs])
    assert not (mine / "report.html").exists()


def test_earlier_report_survives_a_failure(tmp_path, monkeypatch):
    write_run(tmp_path)
    (tmp_path / "report.html").write_text("earlier")

    def fail(*_):
        raise RuntimeError("no space")

    before = sorted(tmp_path.iterdir())
    for owner, name in [(run_page, "render"), (files.os, "replace")]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(RuntimeError, match="no space"):
                write_report(tmp_path)
        assert (tmp_path / "report.html").read_text() == "earlier"
        assert sorted(tmp_path.iterdir()) == before
    write_report(tmp_path)
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_report_is_reproducible(tmp_path):
    first = write_report(write_run(tmp_path, log=fake_log())).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_percent_rounds_only_0_and_1_to_0_and_100():
    shares = (0, 1.0, 0.012, 0.0006, 0.9996, 0.25, 0.02, None, float("nan"))
    texts = [page.percent(share).removesuffix("\xa0%") for share in shares]
    assert texts == ["0", "100", "1.2", "0.06", "99.96", "25", "2", "–", "–"]


def test_duration():
    texts = [page.duration(seconds) for seconds in (3.14, 42, 185.4, 7830, None)]
    assert texts == ["3.1 s", "42 s", "3 min 5 s", "2 h 10 min", "–"]


def test_save_grid_places_every_pixel(tmp_path):
    """A pixel of the grid equals the pixel of the tile that the layout puts there."""
    images = np.random.default_rng(1).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    save_grid(images, tmp_path / "grid.png", columns=3, scale=2)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == ((2 * 6 + 2) * 2, (3 * 7 + 2 * 2) * 2, 3)
    for index, image in enumerate(images):
        top, left = 2 * (6 + 2) * (index // 3), 2 * (7 + 2) * (index % 3)
        tile = grid[top : top + 12, left : left + 14]
        np.testing.assert_array_equal(tile, image.repeat(2, axis=0).repeat(2, axis=1))
    assert (grid[16:, -14:] == 255).all()  # no sixth image


def test_save_grid_default_scale_and_errors(tmp_path):
    path = Path(tmp_path / "grid.png")
    save_grid(np.zeros((1, 28, 28, 1), dtype=np.uint8), path)
    assert Image.open(path).size == (56, 56)
    with pytest.raises(ValueError, match="at least one image"):
        save_grid(np.zeros((0, 4, 4, 1), dtype=np.uint8), path)
    with pytest.raises(ValueError, match="must be uint8"):
        save_grid(np.zeros((1, 4, 4), dtype=np.uint8), path)


def test_copies_are_counted_by_pixel_distance():
    original = np.zeros((1, 2, 2, 1), dtype=np.uint8)
    images = np.stack([original[0], original[0] + 51, original[0] + 255])  # L2: 0, 0.4, 2
    assert grids.count_as_copies(images, original, 0.39).tolist() == [True, False, False]
    assert grids.count_as_copies(images, original, 0.41).tolist() == [True, True, False]


def test_marked_pictures_are_framed_in_the_gap():
    images = np.zeros((2, 28, 28, 1), dtype=np.uint8)
    grid = np.asarray(grids.make_grid(images, scale=1, marked=np.array([True, False])))
    assert (grid[1:29, 1:29] == 0).all()  # the picture itself is untouched
    assert (grid[0, :30] == grid[0, 0]).all()
    assert grid[0, 0, 0] > grid[0, 0, 1]
    assert (grid[0, 31:] == 255).all()


def test_distinct_keeps_the_order():
    images = np.array([3, 1, 3, 2], dtype=np.uint8).reshape(4, 1, 1, 1)
    assert grids.distinct(images).ravel().tolist() == [3, 1, 2]


def test_plots_without_data_are_none():
    assert plots.regeneration_curve([]) is None
    assert plots.level_curve([plots.Curve("after", plots.AFTER, {}, {})], (0.5, 2)) is None
    assert plots.class_histogram(None, None) is None
    assert set(training_figures([]).values()) == {None}
    log = [{"loss_keep": float("nan"), "norm_keep": 0.0, "ess_keep": {"0-99": None}}]
    assert set(training_figures(log).values()) == {None}


def test_plots_are_png_files():
    figures = training_figures(fake_log(3)) | {
        "classes": plots.class_histogram([1, 2, 3], None),
        "level": plots.level_curve(
            [plots.Curve("after", plots.AFTER, {100: 0.8, 300: 1.2}, {100: (0.5, 1.0)})], None
        ),
    }
    drawn = [png for png in figures.values() if png]
    assert len(drawn) == 8
    assert {Image.open(io.BytesIO(png)).format for png in drawn} == {"PNG"}


@pytest.mark.parametrize(("how", "said"), [("blurred", "are blurred"), ("left_out", "left out")])
def test_a_page_need_not_show_the_removed_pictures(tmp_path, how, said):
    write_run(tmp_path)
    plain = write_report(tmp_path).read_text()
    hidden = write_report(tmp_path, pictures=how).read_text()
    assert said in hidden
    assert said not in plain
    shown = embedded(plain) - embedded(hidden)
    assert len(shown) >= 3  # the picture, and tries to restore it before and after
    assert not set(embedded_pictures_of(tmp_path)) & embedded(hidden)


def embedded(page):
    """The pictures in a page, as their data URIs."""
    return set(re.findall(r"data:image/png;base64,[A-Za-z0-9+/=]+", page))


def embedded_pictures_of(folder):
    """How the removed pictures would be embedded."""
    forget = np.load(folder / "images.npz")["forget"]
    return [grids.embed(forget[:1], columns=1, enlarged=scale).uri for scale in (1, 2, 3)]


def test_purged_pictures_are_gone_from_the_run(tmp_path):
    write_run(tmp_path)
    before = embedded(write_report(tmp_path).read_text())
    purge_pictures(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "were purged from this run" in page
    assert not set(embedded_pictures_of(tmp_path)) & before & embedded(page)
    assert (read_run(tmp_path).images["forget"] == 128).all()
    again = write_report(tmp_path).read_text()
    assert again == page
