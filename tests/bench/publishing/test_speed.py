from dataclasses import replace
from pathlib import Path

from bench.publishing.document import text_table
from bench.publishing.speed import (
    COMMANDS,
    LARGEST_SHARE,
    main,
    missed_goals,
    speed_page,
    with_runtimes,
)
from tests import records as made
from tools.readme_sources import markdown_tables

ROOT = Path(__file__).resolve().parents[3]


def timed(entry, seconds, other, *, reference="softmax", **shape):
    """Eight rounds in which a call took so long, and one of its reference so long."""
    compiled = {"compile_s": 7.0} if shape.get("compile") == "inductor" else {}
    result = made.speed(
        [seconds] * 8, [other] * 8, reference=reference, rounds_key=f"{shape['mode']}", **compiled
    )
    return made.ok_record(made.kernel_cell(entry, **shape), result)


def published(mode):
    return [
        timed("softmax", 12.0, 12.0, mode=mode),
        timed("nala", 2.0, 6.0, reference="nala_published", mode=mode),
        timed("nala_published", 6.0, 12.0, mode=mode),
    ]


def compiled():
    return [
        timed("softmax", 12.0, 12.0, mode="forward"),
        timed("nala", 4.0, 12.0, mode="forward"),
        timed("nala", 3.0, 12.0, mode="forward", compile="inductor"),
    ]


def test_ours_stands_over_the_published_operators_over_softmax_and_compiled_over_eager():
    both = [*published("forward"), *published("forward_backward")]
    page = speed_page(both, compiled())
    lines = {line.replace(" ", "") for line in page.splitlines()}
    assert "|overtheauthors'operators|forward,256|withbackward,256|" in lines
    assert {"|nala|3.00x|3.00x|", "|nala|6.00x|6.00x|"} <= lines
    assert {"|nala|3.00/4.00|", "|nala|1.33x|", "|nala|7.00|"} <= lines
    assert "|nala_published" not in page, "a reference is not a row"
    assert "Imaginary 9000" in page and "torch 2.13.0" in page and "2031-05-06" in page
    assert len(page.splitlines()) <= 120
    other = {"commit": "f" * 40, "is_dirty": True}
    there = [replace(r, environment=r.environment | other) for r in published("forward")]
    noisy = made.changed(there[1], is_noisy=True)
    layers = [timed("nala", 1.0, 6.0, reference="x", mode="forward", scope="layer")]
    page = speed_page([there[0], noisy, *layers], compiled())
    lines = {line.replace(" ", "") for line in page.splitlines()}
    assert {"|nala|3.00x~|", "|nala(layer)|6.00x|"} <= lines
    assert "fffffff\\*" in page and "\\* with uncommitted changes" in page
    exported = [replace(r, environment=r.environment | {"commit": None}) for r in compiled()]
    assert "commit unknown." in speed_page(exported, exported)


def test_the_section_on_runtimes_is_made_anew_and_leaves_the_rest_as_it_is():
    page = speed_page(published("forward"), compiled())
    assert with_runtimes(page, []) == page
    own = [
        timed(name, seconds, 12.0, mode="forward")
        for name, seconds in (("softmax", 12.0), ("kda", 6.0), ("kda_ort", 2.0))
    ]
    whole = with_runtimes(page, own)
    lines = {line.replace(" ", "") for line in whole.splitlines()}
    assert {"|kda|2.00/6.00|", "|kda|3.00x|"} <= lines and whole.startswith(page)
    assert with_runtimes(whole, own) == whole


def test_the_page_says_which_goals_are_missed_and_which_its_intervals_leave_open():
    forward, backward = "forward, 4,096", "with backward, 1,024"
    operators = text_table(
        title="",
        header=("over the authors' operators", backward, forward),
        rows=(("mlla (layer)", "0.957x [0.901, 0.969]", "1.00x [0.949, 1.08]"),),
        num_words=1,
    )
    softmax = text_table(
        title="",
        header=("over softmax", backward, forward),
        rows=(
            ("flatten", "1.00x [0.900, 1.10]", "13.2x [11.8, 14.0]"),
            ("nala_rope", "1.00x", "8.71x [8.50, 9.19]"),
        ),
        num_words=1,
    )
    words, table = missed_goals(operators, softmax)
    assert all(f"{name} at most {goal}" in words for name, goal in LARGEST_SHARE.items())
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert rows == [
        ["mlla (layer)", backward, "1x the operators' speed", "0.957x [0.901, 0.969]", "missed"],
        ["flatten", forward, "0.07 of softmax's time", "0.076 [0.071, 0.085]", "missed"],
        [
            "nala_rope",
            forward,
            "0.11 of softmax's time",
            "0.115 [0.109, 0.118]",
            "open; the interval contains it",
        ],
    ]


def test_the_page_in_docs_says_of_goals_what_its_own_tables_give():
    page = (ROOT / "docs" / "speed.md").read_text()
    operators, softmax = (
        text_table(title="", header=table.header, rows=table.rows, num_words=1)
        for table in markdown_tables(page)[:2]
    )
    assert "\n\n".join(missed_goals(operators, softmax)) in page


def test_the_makefile_runs_what_the_page_says():
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.partition("\nspeed:")[2].partition("\n\n")[0].splitlines()[1:]
    commands = COMMANDS.replace("attnbench ", "python -m bench.")  # in a checkout
    assert [line.removeprefix("\t$(BIN)/") for line in recipe] == commands.splitlines()


def test_the_command_reads_two_sweeps_and_writes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.publishing.speed.RUNTIMES", tmp_path / "none")
    for name, records in {"published": published("forward"), "compiled": compiled()}.items():
        made.stored(tmp_path / name, *records, name="sweep")
    assert main([str(tmp_path), str(tmp_path / "speed.md")]) == 0
    assert (tmp_path / "speed.md").read_text() == speed_page(published("forward"), compiled())
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "speed.md")]) == 2
