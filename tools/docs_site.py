"""Hook of mkdocs, see mkdocs.yml: pages of tasks, and links that lead out of docs/.

It runs where only the extra `docs` is installed, so it reads sources as text and imports neither
torch nor bench.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TASKS = ROOT / "bench" / "measuring" / "tasks"


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each task."""
    from mkdocs.structure.files import File

    for name, text in task_pages().items():
        files.append(File.generated(config, f"tasks/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links to files that are no pages into links to the sources, or into words."""
    markdown = re.sub(
        r"^<!-- (numbers|table|join|quote)\s.*?-->\n", "", markdown, flags=re.S | re.M
    )
    markdown = re.sub(r"^ {2,3}(?=- )", "    ", markdown, flags=re.M)  # lists within lists
    folder = Path(page.file.src_uri).parent
    source = config["extra"]["source"]

    def link(found: re.Match[str]) -> str:
        words, target = found[1], found[2]
        path, _, anchor = target.partition("#")
        if not path or "://" in target:
            return found[0]
        place = os.path.normpath(Path("docs") / folder / path)
        if place.startswith("docs/") and files.get_file_from_path(place.removeprefix("docs/")):
            return found[0]
        if not source:
            return words
        return f"[{words}]({source}/{place}{'#' * bool(anchor)}{anchor})"

    return re.sub(r"(?<!!)\[([^\]\n]*(?:\n[^\]\n]+)?)\]\(([^)\s]+)\)", link, markdown)


def task_pages() -> dict[str, str]:
    """The text of a page for each YAML of conf/task, by its name."""
    described = {name: (file, words) for file in TASKS.glob("*.py") for name, words in _tasks(file)}
    found = {}
    for file in sorted((ROOT / "conf" / "task").glob("*.yaml")):
        settings = yaml.safe_load(file.read_text())[file.stem]
        module, words = described[settings["task"]]
        found[file.stem] = (
            f"# {file.stem}\n\n{words}\n\n"
            f"    attnbench sweep 'seq_len=[]' 'task=[{file.stem}]' 'seed=[0,1,2]'\n\n"
            f"Settings, each of which can be overridden as `task.{file.stem}.KEY=VALUE`:\n\n"
            f"```yaml\n{file.read_text()}```\n\n"
            f"Source: [{module.name}](../../{module.relative_to(ROOT)}). "
            "[What a ranked table asks of each row](../methodology/tasks.md).\n"
        )
    return found


def _tasks(file: Path) -> Iterator[tuple[str, str]]:
    """Registered names of a file with the docstrings of their classes."""
    for node in ast.parse(file.read_text()).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "register_task":
                name = call.args[0]
                assert isinstance(name, ast.Constant)
                yield str(name.value), ast.get_docstring(node) or ""
