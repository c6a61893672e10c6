"""Every example of docs/using-in-a-model.md runs, in the order of the page."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "using-in-a-model.md"


def test_the_examples_of_the_page_run(capsys):
    pytest.importorskip("timm", reason="needs timm: pip install 'attnbench[models]'")
    os.environ["HF_HUB_OFFLINE"] = "1"
    pytest.importorskip(
        "transformers", reason="needs transformers: pip install 'attnbench[transformers]'"
    )
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) == 6
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    assert "flatten, focusing_factor=3" in capsys.readouterr().out
    assert "flatten, focusing_factor=4" in str(names["model"])
