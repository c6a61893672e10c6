import pytest

from bench.studies.catalogue.page_writer import write_pages


def write(*words, text="new\n"):
    return write_pages("bench.some", lambda: {"a.md": text}, words)


def test_an_old_page_is_named_and_not_touched(tmp_path, capsys):
    assert write(f"out={tmp_path}") == 0
    assert write(f"out={tmp_path}", "check=true") == 0
    (tmp_path / "a.md").write_text("old\n")
    capsys.readouterr()
    assert write(f"out={tmp_path}", "check=true") == 1
    told = capsys.readouterr().out
    assert "a.md is not what its sources say. Run python -m bench.some." in told
    assert (tmp_path / "a.md").read_text() == "old\n"


@pytest.mark.parametrize("word", ["ou=x", "check", "check=maybe"])
def test_an_unknown_word_is_bad_input(word):
    assert write(word) == 2


def test_every_page_is_written_and_two_old_ones_are_one_failure(tmp_path, capsys):
    pages = {"a.md": "a\n", "more/b.md": "b\n"}

    def make():
        return pages

    assert write_pages("bench.some", make, [f"out={tmp_path}"]) == 0
    assert {name: (tmp_path / name).read_text() for name in pages} == pages
    pages = {"a.md": "c\n", "more/b.md": "d\n"}
    capsys.readouterr()
    assert write_pages("bench.some", make, [f"out={tmp_path}", "check=true"]) == 1
    assert capsys.readouterr().out.count("is not what its sources say") == 2
