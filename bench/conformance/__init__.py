"""What every mechanism is put through: each claim of its capabilities, and what all must keep.

`forms` builds a mechanism to be watched, `check` registers checks and says what they may end as,
`suite` knows them all, `run` turns them into badges. The checks themselves lie one family to a
file. The pytest suite runs the same checks, one case to a test.
"""

from __future__ import annotations
