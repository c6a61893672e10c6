import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import bench
from bench.publishing.templates import prose

TEMPLATES = sorted(Path(bench.__file__).parent.rglob("*.md.j2"))


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_block_is_used_by_the_module_beside_it(file):
    source = file.with_name(file.name.removesuffix(".md.j2") + ".py").read_text()
    blocks = re.findall(r"{% block (\w+) %}", file.read_text())
    assert blocks and all(f'"{block}"' in source for block in blocks)


def test_a_block_is_filled_and_a_hole_without_a_value_is_an_error(tmp_path):
    words = (
        "{% block one %}\n1\n{% endblock %}\n\n{% block two %}\n{{ count }} < 3\n{% endblock %}\n"
    )
    (tmp_path / "page.md.j2").write_text(words)
    module = str(tmp_path / "page.py")
    assert prose(module, "one") == "1"
    assert prose(module, "two", count=2) == "2 < 3"
    with pytest.raises(UndefinedError, match="count"):
        prose(module, "two")
