"""The project's own golden files, and copies of some of them."""

import shutil
from pathlib import Path

from attentions.testing.authors.cases import PACKAGED as PUBLIC


def copy_case(folder: Path, name: str, new_name: str = "") -> None:
    target = folder / (new_name or name)
    target.parent.mkdir(parents=True, exist_ok=True)
    said = (PUBLIC / f"{name}.json").read_text()
    case = name.partition("/")[2]
    Path(f"{target}.json").write_text(said.replace(f'"case": "{case}"', f'"case": "{target.name}"'))
    shutil.copy(PUBLIC / f"{name}.safetensors", f"{target}.safetensors")


SMALL = (
    "linear_elu/full_b2h2n49d16",
    "performer/softmax_b2h2n49d16m24",
    "softmax/causal_b2h2n49d16",
)
"""Cases of three mechanisms."""
