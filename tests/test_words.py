"""Docstrings name the thing or begin with a verb."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFUSED = re.compile(r"(Of|As of|By|What|Whether it)\b")
"""First words of a docstring that neither names its subject nor says what is done."""

ROOMS = ("bench", "attentions", "tests", "tools")
FILES = sorted(file for room in ROOMS for file in ROOT.glob(f"{room}/**/*.py"))


def docstrings(text):
    """Line and text of the docstrings of modules, classes, functions, fields and constants."""
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for part in body if isinstance(body, list) else []:
            value = part.value if isinstance(part, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield part.lineno, value.value


def refused(text):
    """Line and first words of the docstrings that begin with a refused word."""
    return [(line, words[:60]) for line, words in docstrings(text) if REFUSED.match(words)]


def test_no_docstring_begins_with_a_refused_word():
    assert len(FILES) > 300
    found = {str(f.relative_to(ROOT)): refused(f.read_text("utf-8")) for f in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}
