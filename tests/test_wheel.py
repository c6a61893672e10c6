"""A wheel in environments of their own: commands, a page in Chromium, and folders with a bench."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.bench.publishing.page.test_browser import CHROMIUM, FLAGS, Reader, sync_api

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PACKAGED = (
    *("attentions", "attnbench.py", "bench", "conf"),
    *("pyproject.toml", "setup.py", "README.md", "LICENSE"),
)
TINY = ("attention=[softmax,linear]", "seq_len=[32,48,64]", "head_dim=8", "measure.budget_s=0.05")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
# All that commands import which do not measure.
WITHOUT_TORCH = ("numpy", "scipy", "hydra-core", "psutil", "rich", "pydantic", "Jinja2")
OTHERS = [f"3.{minor}" for minor in (11, 12, 13) if sys.version_info[1] != minor]


def done(*command, cwd, path=None):
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = kept | {"WANDB_MODE": "disabled"} | ({"PYTHONPATH": path} if path else {})
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools leaves its build in the tree
    source.mkdir()
    for name in PACKAGED:
        copy: Callable[..., Any] = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    done(*PIP, *build, str(source), cwd=folder)
    (made,) = folder.glob("attnbench-*.whl")
    return made


def test_the_words_of_pages_are_in_the_wheel(wheel):
    words = {str(file.relative_to(ROOT)) for file in (ROOT / "bench").rglob("*.md.j2")}
    words.add("bench/completion.bash")
    assert words and words <= {*ZipFile(wheel).namelist()}


def test_golden_files_stay_in_the_repository(wheel):
    names = ZipFile(wheel).namelist()
    assert "attentions/testing/authors/map.yaml" in names
    assert "attentions/testing/vectors/gated_delta.safetensors" in names
    assert not [name for name in names if name.startswith("attentions/testing/golden")]


@pytest.fixture(scope="module")
def python(wheel):
    """The Python of an environment with the wheel; what it needs is from that of the tests."""
    python = environment_of(Path(sys.executable), wheel, wheel.parent / "venv")
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    # After the wheel's own; path files in there, such as an editable install's, are not followed.
    (packages / "needs.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def environment_of(base, wheel, folder):
    """The Python of a new environment that has the wheel and nothing else."""
    done(base, "-m", "venv", "--without-pip", folder, cwd=wheel.parent)
    python = folder / "bin" / "python"
    done(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=wheel.parent)
    return python


@pytest.fixture
def occupied(tmp_path):
    """A folder of another project that has packages with our names."""
    for name in ("bench", "attentions", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('not our {name}')\n")
    return tmp_path


def interpreter(version):
    """Another Python, of pyenv, uv or the path, that can make environments."""
    homes = {".pyenv/versions": f"{version}.*", ".local/share/uv/python": f"cpython-{version}.*"}
    kept = [*(f for home, name in homes.items() for f in Path.home().joinpath(home).glob(name))]
    for python in (*(f / "bin" / "python3" for f in kept), shutil.which(f"python{version}")):
        words = [python, "-c", "import ensurepip, venv"]
        if (
            python
            and Path(python).exists()
            and not subprocess.call(words, stderr=subprocess.DEVNULL)
        ):
            return Path(python)
    return None


@pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")
def test_a_wheel_measures_reports_and_its_page_opens(python, tmp_path):
    where = done(python, "-c", "import bench; print(bench.__file__)", cwd=tmp_path)
    assert where.startswith(str(python.parents[1]))
    assert Path(where).with_name("py.typed").exists()
    assert Path(where).with_name("conf").joinpath("sweep.yaml").exists()
    done(python, "-m", "bench.sweep", *TINY, cwd=tmp_path)
    page = tmp_path / "results" / "leaderboard.html"
    page.unlink()
    done(python, "-m", "bench.report", cwd=tmp_path)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown = Reader(browser.new_context(), page.as_uri())
        assert set(shown.names()) == {"softmax", "linear"}
        for chart in ("speed-up", "latency_s"):
            assert shown.page.locator(f"figure[data-chart='{chart}'] svg").count() == 1
        assert (shown.said, shown.requests) == ([], [page.as_uri()])
        browser.close()


@pytest.mark.parametrize("path", [None, "."])
def test_the_console_script_finds_its_own_modules_in_a_folder_that_has_their_names(
    python, occupied, path
):
    attnbench = python.with_name("attnbench")
    printed = done(attnbench, "sweep", *TINY, "task=[]", cwd=occupied, path=path)
    assert "6 ok" in printed
    assert (occupied / "results" / "table.csv").exists()
    assert "softmax" in done(attnbench, "list", "family=exact", cwd=occupied, path=path)


def test_a_plugin_of_such_a_folder_is_found(python, occupied):
    done(python.with_name("attnbench"), "new", "mine", cwd=occupied)
    words = ("sweep", "attention=[softmax,mine]", "plugins=[mine]", "seq_len=32", "task=[]")
    printed = done(python.with_name("attnbench"), *words, "dry_run=true", cwd=occupied)
    assert "2 cells" in printed


def test_a_wheel_tests_mechanisms_in_pytest_and_says_where_golden_files_are(python, tmp_path):
    words = ("--attention", "linear", "--attention-claims", "golden,meta")
    said = done(
        python, "-m", "pytest", "-q", "-rs", "--pyargs", "attentions.testing", *words, cwd=tmp_path
    )
    assert "2 passed, 1 skipped" in said and "in attentions/testing/golden" in said


def test_the_wheel_takes_no_other_names(python):
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    names = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert names - {"needs.pth", "__pycache__"} == {
        "attentions",
        "attnbench.py",
        "attnbench",
        "bench",
    }


def test_attentions_imports_torch_alone(python, tmp_path):
    """No other package that the wheel requires; torch brings Jinja2, and uses numpy if present."""
    code = (
        "import sys\n"
        "others = {'scipy', 'hydra', 'omegaconf', 'wandb', 'fvcore', 'safetensors', 'psutil',\n"
        "          'rich', 'pydantic', 'timm', 'transformers', 'bench', 'numpy', 'pytest',\n"
        "          'yaml'}\n"
        "for name in others:\n"
        "    sys.modules[name] = None\n"
        "import torch, attentions\n"
        "q = torch.randn(1, 2, 8, 4)\n"
        "for name in ('softmax', 'nala', 'linear', 'gated_deltanet'):\n"
        "    geometry = attentions.Geometry(num_heads=2, head_dim=4, seq_len=8, causal=False)\n"
        "    attentions.attention_class(name)\n"
        "print(attentions.functional.nala(q, q, q).shape)\n"
    )
    assert "[1, 2, 8, 4]" in done(python, "-W", "ignore", "-c", code, cwd=tmp_path)


@pytest.mark.parametrize("version", OTHERS)
def test_on_another_python_the_commands_run_that_need_no_torch(wheel, version, occupied):
    other = interpreter(version)
    if other is None:
        pytest.skip(f"Python {version} with ensurepip is neither on the path nor in pyenv or uv")
    python = environment_of(other, wheel, occupied / "venv")
    install = [*PIP, "--python", str(python), "install", *WITHOUT_TORCH]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip(f"pip reaches no packages for {other}")
    attnbench = python.with_name("attnbench")
    assert "attnbench 0." in done(attnbench, "--version", cwd=occupied, path=".")
    assert "nala" in done(attnbench, "list", cwd=occupied, path=".")
    done(attnbench, "new", "mine", cwd=occupied, path=".")
    assert (occupied / "mine.py").exists()
    compiled = done(python, "-m", "compileall", "-q", python.parents[1] / "lib", cwd=occupied)
    assert "Error" not in compiled
