from __future__ import annotations

from bench.core.rows import settings_of


def test_settings_are_read_of_our_rows_and_no_path_is_made_from_another_label() -> None:
    assert settings_of("performer")["mechanism"] == "performer"
    for label in ("../task/recall", "x" * 5000, "", ".", "performer.yaml", "a\0b"):
        assert settings_of(label) is None
