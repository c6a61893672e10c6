"""Each number of README is that of the file, row and column which the comment above it names."""

import re
from decimal import Decimal

import pytest

from tools import readme_numbers, readme_sources
from tools.readme_numbers import CONSTANTS, WORDS, blocks, in_digits_of, problems, written
from tools.readme_sources import lookup

PAGES = {name: (readme_numbers.ROOT / name).read_text() for name in readme_numbers.pages()}
README = PAGES["README.md"]
TABLE = """\
# Page

## first · cpu

| entry | marks | score (%) |
| ----- | ----- | --------: |
| `a`   |       | 1.5 [1.0, 2.0] |
| b     | not settled | -2.5 [-3.0, +0.5] |
| c (control) | | 1,200 |

## first, other · cpu

| entry | score (%) |
| ----- | --------: |
| a     | 7 |
"""


def one_more(shown):
    """A number with its last digit changed by one; a word becomes the next one."""
    if shown.lower() in WORDS:
        return WORDS[WORDS.index(shown.lower()) + 1]
    place, digit = [(i, c) for i, c in enumerate(shown) if c.isdigit()][-1]
    return shown[:place] + ("8" if digit == "9" else str(int(digit) + 1)) + shown[place + 1 :]


def spans(readme, name="README.md"):
    """Where the tied numbers of a page stand, in characters."""
    return [
        (block.start + token.start(), block.start + token.end())
        for block in blocks(readme)
        for token in block.tokens
        if block.ties or name == "README.md"
    ]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """An empty folder in the place of this repository."""
    monkeypatch.setattr(readme_sources, "ROOT", tmp_path)
    for cached in (readme_sources.text_of, readme_sources._tables):
        cached.cache_clear()
    yield tmp_path
    for cached in (readme_sources.text_of, readme_sources._tables):
        cached.cache_clear()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_the_numbers_of_the_files_it_names(name):
    assert problems(PAGES[name], name) == []


@pytest.mark.parametrize("name", PAGES)
def test_each_number_changed_by_one_in_its_last_digit_is_found(name):
    page = PAGES[name]
    missed = []
    for start, end in spans(page, name):
        changed = page[:start] + one_more(page[start:end]) + page[end:]
        if not problems(changed, name):
            missed.append((page.count("\n", 0, start) + 1, page[start:end]))
    assert missed == []


def test_what_is_tied_to_nothing_is_at_most_thirty_phrases_all_in_use():
    assert len(CONSTANTS) <= 30
    words = " ".join(" ".join(PAGES.values()).split())
    assert [phrase for phrase in CONSTANTS if phrase not in words] == []


def test_every_number_outside_code_is_tied_a_constant_or_of_a_name():
    text = re.sub(r"<!--.*?-->|```.*?```|^ {4}.*$|`[^`]*`|\]\(.*?\)", "", README, flags=re.S | re.M)
    seen = [README[start:end] for start, end in spans(README)]
    for phrase in CONSTANTS:
        seen += re.findall(r"\d[\d.,]*\d|\d", phrase)
    numbers = re.findall(r"(?<![\w.:,-])\d[\d,]*(?:\.\d+)?(?![\w,.]*\d)", text)
    papers = set(re.findall(r"et al\., (\d{4})", text))
    assert {n.rstrip(",") for n in numbers} - papers <= {n.lstrip("+-") for n in seen}


def test_a_number_without_a_tie_is_refused_and_so_is_a_tie_without_a_number():
    (told,) = problems("# Title\n\nIt is 12 % faster on `x 3` of 4,096 tokens [see](a/7.svg).\n")
    assert "README.md:3" in told and "1 numbers here (12)" in told
    (told,) = problems("<!-- numbers\nconf/task/*.yaml | count\n-->\nNothing is counted.\n")
    assert "has 1" in told
    (told,) = problems("There are seven.\n")
    assert "(seven)" in told
    assert problems("    code 12\n\n```\n13\n\n14\n```\n\nOne of two, by A et al., 2020.\n") == []


def test_a_regenerated_page_is_brought_into_readme_by_the_command_that_the_test_names(files):
    (files / "page.md").write_text(TABLE)
    readme = (
        "<!-- numbers\npage.md | first · cpu | a | score (%)\n"
        "page.md | first · cpu | entry=b | score (%) | low minus\n-->\n"
        "It was 1.9, and 4.0 less.\n\n"
        "<!-- table page.md | first · cpu -->\n| score (%) | entry | marks |\n|--:|--|--|\n\n"
        "<!-- join page.md\nscore | first · cpu | score (%)\n-->\n| entry | score |\n|---|--:|\n\n"
        "<!-- quote page.md | ## first, -->\n>\n"
    )
    assert all(readme_numbers.COMMAND in told for told in problems(readme))
    assert len(problems(readme)) == 4
    now = written(readme)
    assert problems(now) == []
    assert "It was 1.5, and 3.0 less." in now
    assert re.search(r"\| -2\.5 \[-3\.0, \+0\.5\] +\| +b +\|", now)
    assert re.search(r"\| b +\| -2\.5 \[-3\.0, \+0\.5\]\* \|", now)
    assert "> ## first, other · cpu\n" in now


def test_values_are_read_from_tables_texts_keys_and_counts(files):
    (files / "page.md").write_text(TABLE)
    (files / "table.csv").write_text("entry,score\na,1e-07\nb,0.918\n")
    (files / "found.json").write_text('{"rows": [{"value": 84.5}], "words": "about 61 seeds"}')
    (files / "conf.yaml").write_text("defaults:\n  - names: [a, b, c]\n")
    wanted = {
        "page.md | first · cpu | marks=not * | score (%) | high": "0.5",
        "page.md | first · cpu | entry!=b & entry!=c* | score (%)": "1.5",
        "page.md | first · cpu | * | score (%) | max": "1200",
        "page.md | first · cpu | * | score (%) | count": "3",
        "page.md | first · cpu | b | score (%) | /([-\\d.]+), /": "-3.0",
        "table.csv | - | b | score | x100": "91.8",
        "table.csv | - | a | score": "0.0000001",
        "found.json | rows.0.value": "84.5",
        "found.json | /about (\\d+) seeds/": "61",
        "conf.yaml | defaults.0.names | count": "3",
        "page.md | /## first/ | count": "1",
        "*.json | count": "1",
    }
    assert {tie: lookup(tie) for tie in wanted} == {t: [Decimal(v)] for t, v in wanted.items()}


def test_a_value_is_written_with_the_digits_that_readme_shows():
    shown = {
        "1.3": "0.9",
        "70": "1",
        "7,000": "1",
        "+0.80": "+0.92",
        "Seven": "1",
        "2.500": "0.918",
    }
    assert {s: in_digits_of(s, Decimal("0.918")) for s in shown} == shown | {"Seven": "Zero"}
    assert in_digits_of("seven", Decimal(24)) == "twenty-four"
    assert in_digits_of("12", Decimal(1600)) == "1,600"
    assert in_digits_of("12", Decimal("11.5")) == "12"
    assert in_digits_of("325ccfe", "64691b0") == "64691b0"


def test_the_command_checks_the_readme_and_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(readme_numbers, "ROOT", tmp_path)
    start, end = spans(README)[0]
    path = tmp_path / "README.md"
    path.write_text(README[:start] + one_more(README[start:end]) + README[end:])
    assert readme_numbers.main([]) == 1
    assert readme_numbers.COMMAND in capsys.readouterr().out
    assert readme_numbers.main(["--write"]) == 0
    assert path.read_text() == README
