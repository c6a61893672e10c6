"""Rules on what a module of `attentions` may import and use, beside the contracts of pyproject."""

import ast
import re
import sys

from tests.sources import Module, is_in

# Packages of extras, which attentions imports where it uses them.
OPTIONAL = ("timm",)
# Packages of the extra `testing`, for the checks alone.
TESTING = {"hypothesis", "pytest", "safetensors", "yaml"}
# Modules about a package, which import it at once; whoever imports them wants that package.
ABOUT = {
    "numpy": ("attentions.testing.vectors.formulas",),
    "transformers": ("attentions.huggingface", "attentions.integrations.transformers"),
}
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
    """Imports of `attentions` besides torch, the standard library and, relatively, itself.

    Packages of an extra may be imported where they are used, not when the module is imported.
    """
    return [
        f"{module.name}:{found.line} imports {found.target}"
        for found in module.imports
        if not found.relative
        and (root := found.target.split(".")[0]) not in {"torch", *sys.stdlib_module_names}
        and (found.eager or root not in OPTIONAL)
        and not (is_in(module.name, "attentions.testing") and root in TESTING)
        and not module.name.startswith(ABOUT.get(root, ()) or "-")
    ]


def weather(module: Module) -> list[str]:
    """Uses of the machine, the environment or private names of torch in code of `attentions`.

    Adapters are the code of others, and checks watch what mechanisms do.
    """
    if not is_in(module.name, "attentions"):
        return []
    if is_in(module.name, ("attentions.adapters", "attentions.testing")):
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
