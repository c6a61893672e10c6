"""``leaderboard.html``: all results in one file, which needs no network and no torch.

`rows` and `content` turn a leaderboard into compact JSON, and `assemble` puts it into one file with
the JavaScript of `vendor/` and our own of `assets/`. `serve` shows it on loopback, and `site` makes
a folder of several for static hosting.
"""
