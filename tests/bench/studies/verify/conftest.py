import pytest

from tests.attentions.testing.authors.copies import SMALL, copy_case


@pytest.fixture
def small(tmp_path):
    """Three cases of three mechanisms."""
    for name in SMALL:
        copy_case(tmp_path / "golden", name)
    return tmp_path / "golden"
