import pytest

from bench.measuring.worker.request import device_of, library_at


@pytest.mark.parametrize(
    "request_",
    [
        {"cell": {"device": "cuda:1"}},
        {"base": {"device": "cuda:1"}, "current": {"device": "cuda:1"}},
        {"cells": [{"device": "cuda:1"}, {"device": "cuda:1"}]},
        {"device": "cuda:1"},
    ],
)
def test_every_job_says_its_device_in_a_place_of_its_own(request_):
    assert device_of(request_) == "cuda:1"


def test_another_tree_without_mechanisms_is_refused(tmp_path):
    with pytest.raises(ImportError, match="has no package attentions"):
        library_at(str(tmp_path))
    (tmp_path / "attentions").mkdir()
    (tmp_path / "attentions" / "__init__.py").write_text("raise ImportError('half of it')\n")
    for _ in range(2):  # what was half imported is no library the next time either
        with pytest.raises(ImportError, match="half of it"):
            library_at(str(tmp_path))


def test_two_other_trees_are_two_libraries(tmp_path):
    found = []
    for number in (1, 2):
        package = tmp_path / str(number) / "attentions"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("from .part import NUMBER\n")
        (package / "part.py").write_text(f"NUMBER = {number}\n")
        found.append(library_at(str(package.parent)))
    assert [library.NUMBER for library in found] == [1, 2]
    assert library_at(str(tmp_path / "1")) is found[0]
