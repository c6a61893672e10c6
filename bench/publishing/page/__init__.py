"""``leaderboard.html``: all results in one file, which needs no network and no torch.

`rows` and `content` turn a leaderboard into compact JSON, `mechanisms` adds what is known of each
mechanism, `charts` the specifications of its charts, and `assemble` puts them into one file with
the JavaScript of `vendor/` and our own of `assets/`. `cache` builds it only where something has
changed, `serve` shows it on loopback, and `site` makes a folder of several for static hosting.
"""
