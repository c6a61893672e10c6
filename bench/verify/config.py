"""What was asked for: which proofs, of which mechanisms, against which golden files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench
from attentions import attention_names
from bench.app.entries import read_attention_entries
from bench.app.errors import OF_YOUR_OWN, ConfigError, did_you_mean
from bench.app.values import Values, flag, text
from bench.measure.clock import utc_stamp
from bench.plugins import import_plugins

PUBLIC_GOLDENS = Path("tests/golden")
_OTHER_PROOFS = ("flops", "conformance", "numerics")
"""What is proven instead of outputs, each by a key of its own."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Everything that `bench.verify` was asked for.

    Attributes:
        golden: the folder of golden files.
        attention: registered names to prove; empty for all.
        out: the JSON file that gets the rows.
        plugins: modules to import before names are looked up.
        flops: whether to prove FLOP formulas, and not outputs.
        conformance: whether to test what is claimed, and not outputs.
        numerics: whether to measure errors of narrow dtypes, and not outputs.
        run: names the file that badges go to.
    """

    golden: Path
    attention: tuple[str, ...]
    out: Path
    plugins: tuple[str, ...] = ()
    flops: bool = False
    conformance: bool = False
    numerics: bool = False
    run: str = "verify"


def read_verify_config(config: dict[str, Any]) -> VerifyConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    values = Values(config)
    entries = read_attention_entries(config.get("attention"))
    others = {key: values.optional(key, flag) or False for key in _OTHER_PROOFS}
    wanted = [f"{key}=true" for key, is_wanted in others.items() if is_wanted]
    if len(wanted) > 1:
        raise ConfigError(f"{' and '.join(wanted)} are commands of their own: give one of them.")
    given = values.optional("golden", text)
    usual = PUBLIC_GOLDENS if wanted or given else public_goldens()
    return VerifyConfig(
        golden=Path(given or usual),
        attention=tuple(dict.fromkeys(entry.mechanism for entry in entries)),
        out=Path(values.one("out", text)),
        plugins=values.some("plugins", text, or_none=True),
        **others,
        run=str(config.get("sweep_id") or utc_stamp()).replace("/", "-"),
    )


def public_goldens() -> Path:
    """Find this project's own, beside the package in a checkout, else below the current folder."""
    beside = Path(bench.__file__).resolve().parent.parent / PUBLIC_GOLDENS
    for folder in (beside, PUBLIC_GOLDENS):
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"There are no golden files at {beside} or {PUBLIC_GOLDENS}: an installed package brings "
        "none. Say golden=DIR, e.g. the tests/golden of a checkout."
    )


def check_names(config: VerifyConfig) -> None:
    """Import the plug-ins and look up the names.

    Raises:
        ConfigError: an unknown mechanism, a plugin that cannot be imported.
    """
    import_plugins(config.plugins)
    known = attention_names()
    for name in config.attention:
        if name not in known:
            near = did_you_mean(name, known)
            raise ConfigError(f"attention={name} is not registered. {near} {OF_YOUR_OWN}")
