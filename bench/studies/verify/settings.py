"""Settings of `bench.verify`: kind of proof, mechanisms, golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from attentions import attention_names
from bench.core.cli.entries import read_attention_entries
from bench.core.cli.errors import OF_YOUR_OWN, check_known
from bench.core.settings import (
    BeforeValidator,
    Folder,
    Group,
    Interval,
    Name,
    Settings,
    Some,
    chosen,
    model_validator,
)
from bench.measuring.config import Device

_OTHERS = ("flops", "conformance", "numerics", "keep")


def _mechanisms(given: Any) -> Any:
    """Registered names, of entries or as they are."""
    if isinstance(given, tuple):
        return given
    return tuple(dict.fromkeys(entry.mechanism for entry in read_attention_entries(given)))


class Verify(Settings):
    """Prove mechanisms. Without overrides: outputs, against every golden file."""

    attention: Annotated[tuple[str, ...], Group("attention"), BeforeValidator(_mechanisms)] = (
        chosen(())
    )
    golden: Folder | None = None
    """A folder of golden files; null: those of attentions/testing/golden in the repository."""
    device: Device = "cpu"
    """Where outputs are compared with golden files; the other proofs choose devices themselves."""
    strict: bool = False
    """Exit with 1 also if a case is not covered, but for those that not_covered.yaml lists."""
    flops: bool = False
    """Prove FLOP formulas instead; the rows go to verify-flops.json."""
    conformance: bool = False
    """Test the claims of mechanisms instead; badges go to badges/ next to out."""
    numerics: bool = False
    """Measure narrow dtypes instead; findings go to numerics/ next to out, and to docs/numerics.md
    if out is in this checkout's results/.
    """
    keep: bool = False
    """Prove outputs and claims of what changed since results/proofs.jsonl, and keep them there."""
    force: bool = False
    """With keep=true, also prove what has not changed."""
    limit_s: Annotated[float, Interval(gt=0)] = 600.0
    """Seconds that one check may take; a longer one has failed."""
    out: Folder = Path("results/verify.json")
    """Where the rows go, one JSON object per case."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> Verify:
        others = {name: getattr(self, name) for name in _OTHERS}
        wanted = [f"{name}=true" for name, is_wanted in others.items() if is_wanted]
        if len(wanted) > 1:
            raise ValueError(f"{' and '.join(wanted)} are commands of their own: give one of them.")
        if self.strict and wanted:
            raise ValueError(f"strict=true is about golden cases alone: leave out {wanted[0]}.")
        return self

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Registered names to prove; all of them where none is chosen.

        Raises:
            ConfigError: an unknown mechanism.
        """
        known = attention_names()
        for name in self.attention:
            check_known(name, known, f"attention={name} is not registered.", OF_YOUR_OWN)
        return self.attention or known
