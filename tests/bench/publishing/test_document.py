"""Tables and documents: Markdown, CSV and the terminal show the same values."""

import io
import math

import pytest
from rich.console import Console

from bench.core.cli.errors import ConfigError
from bench.publishing.document import (
    Column,
    Document,
    Estimate,
    Heading,
    Table,
    Text,
    csv_cell,
    csv_text,
    latex,
    markdown,
    text_table,
    words,
    write,
)
from bench.publishing.terminal import print_document

TABLE = Table(
    title="Scores",
    columns=(
        words("attention"),
        Column("accuracy", unit="%", factor=0.01, digits=".1f", better="higher"),
        Column("latency_s", "latency", "ms", 1e-3, better="lower"),
        Column("seeds", digits=lambda n: f"{n:,.0f}"),
    ),
    rows=(
        {"attention": "a|b", "accuracy": 0.5, "latency_s": Estimate(0.25, 0.1, 0.4), "seeds": 2000},
        {"attention": "none", "accuracy": math.nan, "latency_s": Estimate(0.5)},
    ),
)
DOCUMENT = Document(
    "Title",
    [
        Heading("Part"),
        TABLE,
    ],
)


def test_csv_has_base_units_without_intervals():
    assert csv_text(TABLE).splitlines() == [
        "attention,accuracy,latency_s,seeds",
        "a|b,0.5,0.25,2000",
        "none,nan,0.5,",
    ]


def test_text_that_a_spreadsheet_would_evaluate_is_marked_and_numbers_keep_their_sign():
    table = Table(columns=[words("name"), Column("x")], rows=[{"name": "=1+1", "x": -0.5}])
    assert csv_text(table) == "name,x\n'=1+1,-0.5\n"
    risky = ["=", "+", "-", "@", "\t", "\r"]
    assert [csv_cell(f"{start}1") for start in risky] == [f"'{start}1" for start in risky]


def test_an_interval_does_not_leave_what_can_be():
    column = Column("x", within=(0.0, 1.0))
    assert column.write(Estimate(0.9, 0.7, 1.2)) == "0.900 (0.700 to 1.000)"
    assert column.write(None) == "" and column.write("word") == "word"


def test_columns_that_do_not_fit_are_left_out_and_said_so():
    out = io.StringIO()
    print_document(DOCUMENT, Console(file=out, width=44))
    said = out.getvalue()
    assert "Columns that did not fit: latency, seeds.\n" in said
    assert said.count("latency") == 1 and "50.0" in said


def test_a_document_is_written_by_the_ending_of_its_file(tmp_path):
    for ending, text in ((".md", markdown(DOCUMENT)), (".csv", csv_text(TABLE))):
        assert write(DOCUMENT, tmp_path / f"a{ending}").read_text() == text
    page = Document("d", [TABLE])
    assert write(page, tmp_path / "d.tex").read_text("utf-8") == latex(page)
    with pytest.raises(ConfigError, match=r"ends in none of \.md, \.csv, \.tex"):
        write(DOCUMENT, tmp_path / "a.pdf")


def test_latex_holds_the_tables_with_the_leading_rows_in_bold():
    table = text_table(
        "at 5 %",
        ["rank", "a_b"],
        [["3\\", ""], ["1-2", "3^2"]],
        num_words=1,
        leading=frozenset({1}),
    )
    page = Document("A & B", [Heading("Over\n100 %"), Text(["left out"]), table])
    assert latex(page).splitlines() == [
        "% A & B",
        r"% needs \usepackage{booktabs}",
        "",
        "% Over 100 %",
        "",
        r"\begin{table}",
        r"\centering",
        r"\caption{at 5 \%}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"rank & a\_b \\",
        r"\midrule",
        r"3\textbackslash{} &  \\",
        r"\textbf{1-2} & \textbf{3\textasciicircum{}2} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
