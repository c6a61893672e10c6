"""Stores of strangers: validate and merge end in a sentence, and read and write nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import merge, validate
from bench.core.store import Store
from tests import records as made

PRECIOUS = b'{"precious": 1}\n'

Put = Callable[[Path, Path], object]
"""Puts something hostile at a path; the second one is a file that is none of the store's."""

KINDS: dict[str, tuple[Put, str]] = {
    "fifo": (lambda path, _: os.mkfifo(path), "is not a file but a FIFO"),
    "foreign": (lambda path, mine: path.symlink_to(mine), "leads out of"),
    "endless": (lambda path, _: path.symlink_to("/dev/zero"), "leads out of"),
    "nowhere": (lambda path, _: path.symlink_to("nowhere"), ""),
    "itself": (lambda path, _: path.symlink_to(path.name), ""),
    "folder": (lambda path, _: path.mkdir(), "is not a file but a folder"),
    "depth": (lambda path, _: path.write_bytes(b"[" * 100_000), ""),
    "noise": (lambda path, _: path.write_bytes(bytes(range(256)) * 9), ""),
}
PLACES = ("records/z.jsonl", "calibration/x.json", "examples/0123456789abcdef.json")


@pytest.fixture
def out(tmp_path):
    root = tmp_path / "out"
    made.stored(root, *made.block_records(["softmax", "nala"], num_rounds=3))
    return root


@pytest.fixture
def mine(tmp_path):
    """A private file that is none of the store's."""
    file = tmp_path / "elsewhere" / "z.jsonl"
    file.parent.mkdir()
    file.write_bytes(PRECIOUS)
    return file


@pytest.fixture(params=["validate", "merge"])
def command(request, out):
    to = out.parent / "to"
    commands = {
        "validate": lambda: validate.main([str(out)]),
        "merge": lambda: merge.main([str(out), f"out={to}"]),
    }
    yield commands[request.param]
    kept = [file.read_bytes() for file in to.rglob("*") if file.is_file()]
    assert not any(b"precious" in content for content in kept)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_is_none_of_the_store_is_named(out, mine, place, kind, command, capsys):
    path = out / place
    path.parent.mkdir(exist_ok=True)
    put, words = KINDS[kind]
    put(path, mine)
    code = command()
    said = "".join(capsys.readouterr())
    # merge leaves a file of examples behind, and says so.
    assert code == 2 or path.parent.name == "examples"
    assert str(path) in said and words in said and "Traceback" not in said
    assert os.listdir(mine.parent) == [mine.name] and mine.read_bytes() == PRECIOUS


@pytest.mark.parametrize("place", sorted({str(Path(place).parent) for place in PLACES}))
def test_a_folder_that_leads_out_of_the_store_is_named(out, mine, place, command, capsys):
    if (out / place).exists():
        (out / place).rename(out / "kept")
    (out / place).symlink_to(mine.parent)
    assert command() == 2
    assert f"{out / place} leads out of" in capsys.readouterr().err


def test_nothing_is_merged_behind_a_link(out, mine):
    to = out.parent / "to"
    to.mkdir()
    (to / "records").symlink_to(mine.parent)
    assert merge.main([str(out), f"out={to}"]) == 2
    assert os.listdir(mine.parent) == [mine.name]


def test_a_link_that_stays_inside_a_store_is_read(out, exits):
    (out / "records" / "b.jsonl").symlink_to("a.jsonl")
    exits(0, validate.main([str(out)]))
    link = out.parent / "link"
    link.symlink_to(out)
    exits(0, validate.main([str(link)]))


def test_a_terminal_obeys_nothing_that_a_stranger_wrote(out, command, capsys):
    with (out / "records" / "a.jsonl").open("ab") as file:
        file.write(b'{"entry":"\\u001b[2J"}\n"\x1b[2J"\n')
    Store(out, "\x1b[2J").append(made.block_records(["softmax", "nala"], num_rounds=4)[0])
    with (out / "records" / "\x1b[2J.jsonl").open("ab") as file:
        file.write(b"{}\n")
    assert command() == 2
    assert "\x1b" not in "".join(capsys.readouterr())
