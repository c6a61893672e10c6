"""The project's own golden files, and copies of some of them."""

import shutil
from pathlib import Path

from rich.console import Console

from bench.studies.session import Session
from bench.studies.verify.settings import Verify

ROOT = Path(__file__).resolve().parents[4]
PUBLIC = ROOT / "tests" / "golden"


def config(golden: Path, *attention: str, out: Path = Path("unused.json")) -> Verify:
    return Verify(golden=golden, attention=attention, out=out)


def session(console: Console | None = None) -> Session:
    found = Session("verify", {"sweep_id": "verify"})
    found.console = console or Console(record=True, width=120)
    return found


def copy_case(folder: Path, name: str, new_name: str = "") -> None:
    target = folder / (new_name or name)
    target.parent.mkdir(parents=True, exist_ok=True)
    said = (PUBLIC / f"{name}.json").read_text()
    case = name.partition("/")[2]
    Path(f"{target}.json").write_text(said.replace(f'"case": "{case}"', f'"case": "{target.name}"'))
    shutil.copy(PUBLIC / f"{name}.safetensors", f"{target}.safetensors")
