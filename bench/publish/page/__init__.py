"""``leaderboard.html``: everything that was found, as one file that needs no network and no torch.

`rows` and `content` turn a leaderboard into compact JSON, `mechanisms` adds what is known of each
mechanism, `charts` the specifications of its charts, and `assemble` puts them into one file with
the JavaScript of `vendor/` and our own of `assets/`.
"""

from __future__ import annotations

from bench.publish.page.assemble import page_html, write_page
from bench.publish.page.content import page_content

__all__ = ["page_content", "page_html", "write_page"]
