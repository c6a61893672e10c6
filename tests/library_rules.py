"""Rules on what a module of `attentions` may import and use."""

import ast
import re
import sys

from tests.sources import Module, is_in, level

# Packages of extras, which attentions imports where it uses them.
OPTIONAL = ("timm",)
# Modules about a package, which import it at once; whoever imports them wants that package.
ABOUT = {"transformers": ("attentions.huggingface", "attentions.integrations.transformers")}
# Layers of attentions, from above to below. Files at the top of the package are the interface; it
# and the shared formulas may import each other, file by file.
LIBRARY = (
    ("attentions", "attentions.huggingface"),
    ("attentions.models",),
    ("attentions.integrations",),
    ("attentions.adapters", "attentions.published"),
    ("attentions.mechanisms",),
    ("attentions.engines",),
    ("attentions.kernel",),
    ("attentions.interface", "attentions.maths"),
)
INTERFACE = (
    *("base", "capabilities", "catalogue", "checks", "foreign", "functional", "geometry"),
    *("inputs", "layer", "paper_layers", "plugins", "precision", "registry", "signatures", "steps"),
)
# Mechanisms know nothing of the machine and of what surrounds them: no processor, no environment,
# no allocator, no threads, no private name of torch.
WEATHER = re.compile(
    r"(ctypes|platform|cpuinfo|psutil|mmap|resource|threading|multiprocessing|concurrent)(\..*)?"
    r"|os\.(environ|environb|getenv|putenv|cpu_count|sched_\w+)(\..*)?"
    r"|torch\.([gs]et_num_(interop_)?threads|set_flush_denormal|set_float32_matmul_precision)"
    r"|torch\.backends\..*"
    r"|torch\.(\w+\.)*_.*"
    r"|torch\.ops\.mkldnn.*"
    r"|open"
)
SYSTEM_FILES = re.compile(r"/proc\b|/sys/|/etc/|madvise")


def foreign_imports(module: Module) -> list[str]:
    """What `attentions` imports besides torch, the standard library and, relatively, itself.

    Packages of an extra may be imported where they are used, not when the module is imported.
    """
    return [
        f"{module.name}:{found.line} imports {found.target}"
        for found in module.imports
        if not found.relative
        and (root := found.target.split(".")[0]) not in {"torch", *sys.stdlib_module_names}
        and (found.eager or root not in OPTIONAL)
        and not module.name.startswith(ABOUT.get(root, ()) or "-")
    ]


def library_room(name: str) -> str:
    """The room of `attentions` that a module lies in, or that an imported name belongs to."""
    parts = name.split(".")
    if len(parts) == 1:
        return "attentions"
    if parts[1] in INTERFACE:
        return "attentions.interface"
    return ".".join(parts[:2])


def wrong_arrows_in_the_library(module: Module) -> list[str]:
    """Imports within `attentions` that go up or sideways, and files that lie in no room of it."""
    if not is_in(module.name, "attentions"):
        return []
    here = library_room(module.name)
    above = level(here, LIBRARY)
    if above is None:
        return [f"{module.name}: attentions has no such room; the interface is {INTERFACE}"]
    wrong = []
    for found in module.imports:
        there = library_room(found.target)
        below = level(there, LIBRARY)
        if not is_in(found.target, "attentions"):
            continue
        if there == here or here == "attentions" or below == above == len(LIBRARY) - 1:
            continue
        if below is None or below <= above:
            wrong.append(f"{module.name}:{found.line} imports {found.target}, which is above it")
    return wrong


def weather(module: Module) -> list[str]:
    """Uses of the machine, the environment or private names of torch in code of `attentions`."""
    if not is_in(module.name, "attentions") or is_in(module.name, "attentions.adapters"):
        return []
    tree = ast.parse(module.source)
    used = {(found.target, found.line) for found in module.imports if not found.relative}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            used.add((ast.unparse(node), node.lineno))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            used.add((node.func.id, node.lineno))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used |= {(word, node.lineno) for word in SYSTEM_FILES.findall(node.value)}
    wrong = {
        line: f"{module.name}:{line} uses {name}"
        for name, line in sorted(used)
        if WEATHER.fullmatch(name) or SYSTEM_FILES.fullmatch(name)
    }
    return [wrong[line] for line in sorted(wrong)]
