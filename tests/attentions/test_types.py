"""Types of the library, as a type checker sees them."""

import re
from pathlib import Path

from mypy import api

from tools.functional_stub import COMMAND, STUB, stub

ROOT = Path(__file__).resolve().parents[2]


def test_the_programs_of_the_first_page_pass_mypy_strict(tmp_path):
    page = (ROOT / "docs" / "start.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert any(".step(" in block for block in blocks)
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks))
    said, errors, code = api.run(["--strict", str(program)])
    assert code == 0, said + errors


def test_the_stub_of_functions_follows_the_sources():
    assert STUB.read_text() == stub(), f"functional.pyi is out of date; {COMMAND} writes it."
