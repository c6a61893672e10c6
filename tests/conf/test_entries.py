"""conf/: one entry per file under its own name; a study that says `every entry` lists them all."""

from pathlib import Path

import yaml

from bench.core.rows import ON_REQUEST, default_rows, row_labels, settings_of

CONF = Path(__file__).resolve().parent.parent.parent / "conf"
ENTRIES = sorted(path for group in ("attention", "task") for path in (CONF / group).glob("*.yaml"))
ROOTS = sorted([*CONF.glob("*.yaml"), *(CONF / "experiment").glob("*.yaml")])
PROMISE = "every entry"


def misnamed(path):
    """Why a file is not one entry under its own name; two files with one key merge silently."""
    content = yaml.safe_load(path.read_text())
    keys = list(content) if isinstance(content, dict) else []
    return None if keys == [path.stem] else f"{path.name} has the top keys {keys}, not {path.stem}"


def promised_groups(text):
    """Groups of which a file says, in a comment of the line that lists them, `every entry`."""
    lines = [line for line in text.splitlines() if PROMISE in line.partition("#")[2]]
    return [group for line in lines for group in ("attention", "task") if f"{group}:" in line]


def listed(root, group):
    """The names that a defaults list selects from a group."""
    for item in root["defaults"]:
        for key, names in item.items() if isinstance(item, dict) else ():
            if key.removeprefix("override").strip().strip("/") == group:
                return [names] if isinstance(names, str) else list(names)
    return []


def missing_entries(text, existing):
    """Entries that exist and that a file leaves out although it promises all of them."""
    root = yaml.safe_load(text)
    return [
        f"{group}/{name}"
        for group in promised_groups(text)
        for name in sorted(existing[group] - set(listed(root, group)))
        if not name.endswith("_published")  # those are run when asked for
    ]


def existing_entries():
    """All but those that name a model's layers: they are nothing to time."""
    return {
        "attention": {label for label in row_labels() if "mechanism" in (settings_of(label) or {})}
        - ON_REQUEST,
        "task": {path.stem for path in (CONF / "task").glob("*.yaml")},
    }


def test_an_entry_is_the_only_key_of_its_file_and_named_like_it():
    assert [why for path in ENTRIES if (why := misnamed(path))] == []


def test_settings_are_read_without_a_yaml_library_as_with_one():
    for path in (CONF / "attention").glob("*.yaml"):
        own = yaml.safe_load(path.read_text())[path.stem]
        assert settings_of(path.stem) == default_rows().get(own.get("mechanism"), {}) | own
    assert settings_of("no_row_of_ours") is None


def test_there_are_entries_of_both_groups():
    assert all(existing_entries().values())


def test_a_study_that_says_every_entry_lists_every_entry():
    missing = {p.name: missing_entries(p.read_text(), existing_entries()) for p in ROOTS}
    assert {name: entries for name, entries in missing.items() if entries} == {}


def test_an_entry_under_another_name_is_found(tmp_path):
    path = tmp_path / "nala.yaml"
    path.write_text("nala_cosine: {mechanism: nala_cosine}\n")
    assert "nala_cosine" in (misnamed(path) or "")
    path.write_text("nala: {}\nflatten: {}\n")
    assert "flatten" in (misnamed(path) or "")


def test_an_entry_that_a_study_forgot_is_found():
    study = """
    # @package _global_
    defaults:
      - override /attention: [softmax, linear]  # every entry
      - override /task: [digits]
    """
    existing = {"attention": {"softmax", "linear", "nala"}, "task": {"digits", "recall"}}
    assert missing_entries(study, existing) == ["attention/nala"]
