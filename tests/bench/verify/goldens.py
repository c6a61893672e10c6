"""The project's own golden files, and copies of some of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.verify.config import VerifyConfig

ROOT = Path(__file__).resolve().parents[3]
PUBLIC = ROOT / "tests" / "golden"


def config(golden: Path, *attention: str, out: Path = Path("unused.json")) -> VerifyConfig:
    return VerifyConfig(golden=golden, attention=attention, out=out)


def copy_case(folder: Path, name: str, new_name: str = "") -> None:
    target = folder / (new_name or name)
    target.parent.mkdir(parents=True, exist_ok=True)
    said = (PUBLIC / f"{name}.json").read_text()
    case = name.partition("/")[2]
    Path(f"{target}.json").write_text(said.replace(f'"case": "{case}"', f'"case": "{target.name}"'))
    shutil.copy(PUBLIC / f"{name}.safetensors", f"{target}.safetensors")
