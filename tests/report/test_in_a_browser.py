"""Pages in a real browser: nothing asked of the network, no scripts, readable on a phone and paper.

Skipped where there is no Chromium, Chrome or Edge.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataunlearn.cli import main as cli
from dataunlearn.report.pdf import browser, options_for, print_page
from dataunlearn.report.run_files import page_of, write_report
from dataunlearn.report.verification_page import render_verification

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser() is None, reason="no Chromium, Chrome or Edge is installed"),
]
HOSTILE = (
    "<script>document.title = 'taken over'</script><img src=x onerror=\"document.title = "
    "'taken over'\"></style></td><iframe src=https://example.org></iframe>{{ 7 * 7 }}.png"
)
PHONE = 390  # CSS pixels


def run_folder(folder: Path, name: str = "shirt.png") -> Path:
    """A finished run with everything that a page shows, its words from a file's name."""
    draw = np.random.default_rng(0)
    counts = {"forget": 1, "before_samples": 10, "after_samples": 10}
    counts |= {f"{side}_regeneration_500": 3 for side in ("before", "after")}
    images = {k: draw.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8) for k, n in counts.items()}
    side = {"regeneration": {"500": 1.0}, "regeneration_copies": 32, "num_samples": 512}
    contents = {
        "schema": 1,
        "title": f"{name} removed",
        "verdict": {"forgotten": True, "quality_kept": None, "text": f"{name} is gone."},
        "seconds": 100.0,
        "unlearn_seconds": 74.2,
        "forget": {"count": 1, "names": [name], "digests": ["c" * 64]},
        "keep": {"count": 60000, "source": name},
        "method": {"objective": "SISS(lam=0.5)", "combination": "NormFix(ratio=0.1)", "steps": 9},
        "settings": {name: [name, {"a_long_setting_without_any_space_in_it" * 3: 0.9}]},
        "model": {"before": {"path": name, "sha256": "a" * 64}},
        "command": f"dataunlearn unlearn --forget {name}",
        "threshold": 1.0,
        "before": side,
        "after": side | {"regeneration": {"500": 0.0}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "images.npz", **images)
    (folder / "report.json").write_text(json.dumps(contents))
    record = {"loss_keep": 20.0, "loss_forget": 10.0, "norm_keep": 1.0, "norm_forget": 2.0}
    record |= {"cosine": 0.1, "u_forget": -0.1, "ess_keep": None, "ess_forget": None}
    lines = [json.dumps({"step": step, **record}) for step in range(1, 30)]
    (folder / "log.jsonl").write_text("\n".join(lines))
    return folder


def report(name: str, folder: Path) -> str:
    return page_of(run_folder(folder, name)).decode()


def verification(name: str, folder: Path) -> str:
    model = {"path": name, "sha256": "a" * 64}
    course = {"looks": [{"step": s, "restored": s // 2, "tries": 8} for s in (0, 6, 12)]}
    relearned = {"returned_after": [6], "model": [course], "beside": [course]}
    check = {"question": name, "memory": "as if never seen", "words": name, "seconds": 3.0}
    content = {
        "memory": "as if never seen",
        "text": name,
        "checks": [
            {**check, "name": name, "numbers": {}},
            {**check, "name": "relearning on keep", "numbers": relearned},
        ],
        "left_out": {name: name},
        "forget": {"names": [name], "digests": ["b" * 64], "file_sha256": [None]},
        "models": {"model": model, "before": None, "reference": model},
        "settings": {"effort": "quick", "seed": 1},
        "threshold": 1.5,
    }
    return render_verification(content)


PAGES: dict[str, Callable[[str, Path], str]] = {"report": report, "verification": verification}


@pytest.fixture(params=PAGES)
def page_for(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """``page_for(name)``: each kind of page, with a name in all of its texts."""
    return lambda name: PAGES[request.param](name, tmp_path / "run")


def seen(page: str, folder: Path, *options: str) -> tuple[str, str]:
    """The document after it was loaded, and what the browser logged."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [str(browser()), *options_for(folder), *options, "--enable-logging=stderr"]
    done = subprocess.run(
        [*command, "--dump-dom", file.as_uri()], capture_output=True, timeout=120, check=True
    )
    return done.stdout.decode(), done.stderr.decode()


def test_nothing_is_asked_of_the_network(page_for: Any, tmp_path: Path) -> None:
    """By the browser's own log of it, which tells of the page itself, and of a picture put in."""
    log = tmp_path / "net.json"

    def asked(page: str) -> set[str]:
        seen(page, tmp_path, f"--log-net-log={log}", "--disable-background-networking")
        urls = re.findall(r'"url":"([a-z]+://[^"]+)"', log.read_text())
        ours = {url for url in urls if "example.org" in url or url.startswith("file:")}
        return {url for url in ours if not url.endswith("page.html")}

    page = page_for("shirt.png")
    assert asked(page) == set()
    assert not re.search(r'\b(?:src|href)="(?!data:|#)', page)
    spoilt = page.replace("</main>", '<img src="http://example.org/a.png"></main>')
    assert asked(spoilt) == {"http://example.org/a.png"}


def test_a_hostile_name_is_text(page_for: Any, tmp_path: Path) -> None:
    document, logged = seen(page_for(HOSTILE), tmp_path)
    assert "<title>taken over" not in document
    assert "<iframe" not in document
    assert "<script" not in document
    assert "49.png" not in document
    assert html.escape(HOSTILE, quote=False) in document.replace("&quot;", '"')
    assert "CONSOLE" not in logged


def test_what_is_looked_for_would_be_found(page_for: Any, tmp_path: Path) -> None:
    """The same browser runs a script that is in a page, and logs its errors."""
    script = "<script>document.title = 'taken over'; nothing.like.it</script>"
    document, logged = seen(page_for("a.png").replace("</main>", f"{script}</main>"), tmp_path)
    assert "<title>taken over" in document
    assert "CONSOLE" in logged


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_it_fits_the_screen(width: int, page_for: Any, tmp_path: Path) -> None:
    """Nothing is wider than a phone's screen: no scrolling from side to side."""
    long = "a_name_of_a_picture_without_a_single_space_" * 4 + ".png"
    frame = (
        f"<iframe width={width} height=800 srcdoc='{html.escape(page_for(long), quote=True)}'>"
        "</iframe><script>onload = () => { document.title = 'wide ' + frames[0].document"
        ".documentElement.scrollWidth }</script>"
    )
    document, _ = seen(frame, tmp_path)
    found = re.search(r"<title>wide (\d+)</title>", document)
    assert found is not None, document[:300]
    assert int(found[1]) <= width


def test_it_prints(page_for: Any, tmp_path: Path) -> None:
    out = tmp_path / "page.pdf"
    print_page(page_for("shirt.png").encode(), out)
    content = out.read_bytes()
    assert content.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 1 <= pages <= 8
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_report_prints_a_run_and_leaves_it(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    write_report(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    out = tmp_path / "for the lawyer.pdf"
    hidden = ["--pictures", "left_out"]
    assert cli.run(["report", str(folder), "--pdf", str(out), *hidden]) == 0
    assert out.read_bytes().startswith(b"%PDF-")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert cli.run(["report", str(folder), "--pdf", str(out)]) == 1  # it is there
