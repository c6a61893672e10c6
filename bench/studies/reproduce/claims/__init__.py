"""Functions that test a claim of a paper, each registered under its id.

    @register_claim("performer-unbiased")
    def performer_unbiased(lab: Lab, *, num_draws: int) -> Finding: ...

conf/paper has the sentence, its source and the settings. A function that trains does so through
`Lab.scores` or `Lab.tuned`, so that its runs are records and are not trained twice.
"""

from __future__ import annotations

from bench.studies.reproduce.claims.registry import (
    Lab,
    claim_function,
    claim_names,
    register_claim,
    settings_of,
)

__all__ = ["Lab", "claim_function", "claim_names", "register_claim", "settings_of"]
