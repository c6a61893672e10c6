"""Names of config groups: folders of the user's own."""

from pathlib import Path

import pytest

from bench.core.cli.choices import own_folders, yamls


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["--config-dir", "/a b/c,d"], ["/a b/c,d"]),
        (["--config-dir=/a b]"], ["/a b]"]),
        (["-cd", "conf", "seq_len=64"], ["conf"]),
        (["hydra.searchpath=[file:///a b/c,pkg://d,file://e]"], ["/a b/c", "e"]),
        (["hydra.searchpath=['file:///a b']"], ["/a b"]),
        (["--config-dir"], []),
        (["seq_len=64"], []),
    ],
)
def test_folders_that_a_command_line_names(words, folders):
    assert own_folders(words) == [Path(folder) for folder in folders]


def test_rows_of_a_folder_with_a_space_are_known(tmp_path):
    folder = tmp_path / "my conf"
    (folder / "attention").mkdir(parents=True)
    (folder / "attention" / "mine.yaml").write_text("mine: {mechanism: linear}")
    assert "mine" in set(yamls("attention", ["--config-dir", str(folder)]))
