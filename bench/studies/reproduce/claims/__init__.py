"""Functions that test a claim of a paper, each registered under its id.

    @register_claim("performer-unbiased")
    def performer_unbiased(lab: Lab, *, num_draws: int) -> Finding: ...

`papers` has the sentence, its source and the settings. A function that trains does so through
`Lab.tuned`, so that its runs are records and are not trained twice.
"""
