from __future__ import annotations

from pathlib import Path

from bench.publish.speed import COMMANDS, main, speed_page
from bench.record import Record
from bench.store import Store
from tests import records as made

ROOT = Path(__file__).resolve().parents[3]


def timed(
    entry: str, seconds: float, other: float, *, reference: str = "softmax", **shape: object
) -> Record:
    """Eight rounds in which a call took so long, and one of its reference so long."""
    compiled = {"compile_s": 7.0} if shape.get("compile") == "inductor" else {}
    result = made.speed(
        [seconds] * 8, [other] * 8, reference=reference, rounds_key=f"{shape['mode']}", **compiled
    )
    return made.ok_record(made.kernel_cell(entry, **shape), result)


def published(mode: str) -> list[Record]:
    return [
        timed("softmax", 12.0, 12.0, mode=mode),
        timed("nala", 2.0, 6.0, reference="nala_published", mode=mode),
        timed("nala_published", 6.0, 12.0, mode=mode),
    ]


def compiled() -> list[Record]:
    return [
        timed("softmax", 12.0, 12.0, mode="forward"),
        timed("nala", 4.0, 12.0, mode="forward"),
        timed("nala", 3.0, 12.0, mode="forward", compile="inductor"),
    ]


def test_ours_stands_over_the_published_operators_over_softmax_and_compiled_over_eager() -> None:
    both = [*published("forward"), *published("forward_backward")]
    page = speed_page(both, compiled())
    lines = {line.replace(" ", "") for line in page.splitlines()}
    assert "|overtheauthors'operators|forward,256|withbackward,256|" in lines
    assert {"|nala|3.00x|3.00x|", "|nala|6.00x|6.00x|"} <= lines
    assert {"|nala|3.00/4.00|", "|nala|1.33x|", "|nala|7.00|"} <= lines
    assert "|nala_published" not in page, "a reference is no row"
    assert "Imaginary 9000" in page and "torch 2.13.0" in page and "2031-05-06" in page
    assert len(page.splitlines()) <= 120


def test_a_row_without_a_number_and_other_rounds_leave_their_cells_empty() -> None:
    softmax, nala, *_ = published("forward")
    apart = made.changed(softmax, rounds_key="other")
    page = speed_page([apart, nala], compiled())
    assert "|nala|3.00x|" in page.replace(" ", "") and "|nala||" in page.replace(" ", "")


def test_a_row_has_the_marks_of_all_its_cells() -> None:
    softmax, nala, _ = published("forward")
    marked = made.changed(nala, leaks_future=True)
    page = speed_page([softmax, marked, *published("forward_backward")[:2]], compiled())
    assert "|nala|leaksthefuture|3.00x|3.00x|" in page.replace(" ", "")


def test_what_was_checked_in_part_is_said_once_for_all_rows() -> None:
    softmax, nala, _ = published("forward")
    page = speed_page([softmax, made.changed(nala, checked_share=0.5)], compiled())
    assert "|nala|3.00x|" in page.replace(" ", "") and "are checked in part" in page


def test_the_makefile_runs_what_the_page_says() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.partition("\nspeed:")[2].partition("\n\n")[0].splitlines()[1:]
    assert [line.removeprefix("\t$(BIN)/") for line in recipe] == COMMANDS.splitlines()


def test_the_command_reads_two_sweeps_and_writes_the_page(tmp_path: Path) -> None:
    for name, records in {"published": published("forward"), "compiled": compiled()}.items():
        store = Store(tmp_path / name, "sweep")
        for record in records:
            store.append(record)
    assert main([str(tmp_path), str(tmp_path / "speed.md")]) == 0
    assert (tmp_path / "speed.md").read_text() == speed_page(published("forward"), compiled())
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "speed.md")]) == 2
