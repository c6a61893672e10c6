"""`attentions` is a library of its own: in a Python that has torch and nothing else, it works."""

import subprocess
import sys

import pytest

PRELUDE = """
import importlib, importlib.metadata as metadata, pkgutil, re, sys

def needed(name, seen):
    # The packages that torch itself asks for, and they in turn.
    if name in seen:
        return seen
    seen.add(name)
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return seen
    for line in lines:
        if "extra ==" not in line:
            needed(same(re.match(r"[A-Za-z0-9._-]+", line)[0]), seen)
    return seen

def same(name):
    # A package's name however it is written.
    return re.sub("[-_.]+", "-", name).lower()

allowed = {"attentions", *sys.stdlib_module_names}
packages = needed("torch", set())
for module, names in metadata.packages_distributions().items():
    if any(same(name) in packages for name in names):
        allowed.add(module)

class Without:
    # A finder that does not see what is not allowed, as if it were not installed.
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in allowed or top.startswith("_sysconfigdata"):
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(f) for f in sys.meta_path if hasattr(f, "find_spec")]
"""


def alone(code):
    """The lines that such a Python prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_library_and_every_mechanism_of_it_work_with_torch_alone():
    """A public module that needs more says which extra brings it."""
    hidden = ("hydra", "rich", "timm", "bench")
    *blocked, count = alone(f"""
import attentions, torch
for module in {hidden}:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(error)
for name in attentions.__all__:
    getattr(attentions, name)
for name in attentions.attention_names():
    can = attentions.attention_class(name).capabilities
    shape = attentions.Geometry(num_heads=2, head_dim=8, seq_len=16, causal=not can.bidirectional)
    settings = dict(num_agents=4) if name.startswith("agent") else dict()
    if not can.requires and not name.endswith("_published"):
        with torch.no_grad():
            attentions.build_layer(name, shape, **settings)(torch.randn(1, 16, 16))
for module in pkgutil.walk_packages(attentions.__path__, "attentions."):
    if "._" in module.name or module.name.startswith("attentions.testing"):
        continue  # the checks need their extra, testing
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        # A door to an optional package says which extra brings it.
        assert "attnbench[" in str(error), (module.name, error)
print(len(attentions.attention_names()))
""")
    assert blocked == [f"No module named '{module}'" for module in hidden]
    assert int(count) > 40


def test_the_catalogue_needs_not_even_torch():
    alone("""
allowed -= {"torch"}
from attentions.catalogue import catalogue
assert len(catalogue()) > 40 and catalogue()[0].description.hazards
""")
