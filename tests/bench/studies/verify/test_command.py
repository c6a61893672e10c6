import pytest

from bench.studies.verify.command import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["golden=missing"], "golden=missing is not a folder"),
        (["attention=[linaer]"], "linear"),
        (["goldn=x"], "golden"),
        (["golden=[a,b]"], "golden is the list"),
    ],
)
def test_bad_input_ends_with_code_2_and_the_remedy(words, told, tmp_path, exits):
    error = exits(2, main([f"out={tmp_path / 'verify.json'}", *words]))
    assert told in error and "Traceback" not in error


@pytest.mark.parametrize(
    "key", ["conformance=false", "conformance=true", "flops=true", "numerics=true"]
)
def test_a_broken_plugin_ends_every_kind_of_proof_with_code_2_and_the_line_to_mend(
    key, tmp_path, exits, monkeypatch
):
    name = f"broken_{key.partition('=')[0]}_{key[-4]}"
    (tmp_path / f"{name}.py").write_text("import torch\n\nwidth = no_such_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    error = exits(2, main([f"out={tmp_path / 'verify.json'}", f"plugins=[{name}]", key]))
    assert f"{name!r}, which cannot be imported: NameError: name 'no_such_name'" in error
    assert f"{tmp_path / name}.py, line 3" in error and "Traceback" not in error
