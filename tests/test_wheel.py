"""A wheel in an environment of its own: a sweep, a report, and the page in Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.publishing.page.test_browser import CHROMIUM, FLAGS, Reader, sync_api

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PACKAGED = ("attentions", "bench", "conf", "pyproject.toml", "README.md", "LICENSE")
TINY = ("attention=[softmax,linear]", "seq_len=[32,48,64]", "head_dim=8", "measure.budget_s=0.05")


def done(*command: str | Path, cwd: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = kept | {"WANDB_MODE": "disabled"}
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that has the wheel, and what the wheel needs from the one that tests."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools leaves its build in the tree
    source.mkdir()
    for name in PACKAGED:
        copy: Callable[..., Any] = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    done(*pip, *build, str(source), cwd=folder)
    (wheel,) = folder.glob("attnbench-*.whl")
    done(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    install = ("install", "--no-deps", "--no-index", "--target", str(packages))
    done(*pip, *install, str(wheel), cwd=folder)
    # Behind the wheel's own; a path file in there, as of an editable install, is not followed.
    (packages / "needs.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "venv" / "bin" / "python"


@pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
def test_a_wheel_measures_reports_and_its_page_opens(python: Path, tmp_path: Path) -> None:
    where = done(python, "-c", "import bench; print(bench.__file__)", cwd=tmp_path)
    assert where.startswith(str(python.parents[1]))
    assert Path(where).with_name("py.typed").exists()
    assert Path(where).with_name("catalogue").joinpath("published_sizes.yaml").exists()
    done(python, "-m", "bench.sweep", *TINY, cwd=tmp_path)
    page = tmp_path / "results" / "leaderboard.html"
    page.unlink()
    done(python, "-m", "bench.report", cwd=tmp_path)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown = Reader(browser.new_context(), page.as_uri())
        assert set(shown.names()) == {"softmax", "linear"}
        assert shown.page.locator("figure[data-chart='latency'] svg").count() == 1
        assert (shown.said, shown.requests) == ([], [page.as_uri()])
        browser.close()
