from bench.core.rows import settings_of
from bench.publishing.naming import identity, row_names
from tests import records as made


def test_one_entry_set_in_two_ways_is_two_rows_named_by_what_differs():
    settings = [{"num_features": 64, "seed": 0}, {"num_features": 256, "seed": 0}]
    cells = [made.kernel_cell("performer", hyperparameters=values) for values in settings]
    names = row_names([*cells, made.kernel_cell("nala")])
    assert [names[identity(cell)] for cell in cells] == [
        "performer num_features=64",
        "performer num_features=256",
    ]
    assert names[identity(made.kernel_cell("nala"))] == "nala"


def test_an_override_renames_no_row_that_is_set_as_its_yaml_says():
    usual = settings_of("performer")
    assert usual is not None and usual.pop("mechanism") == "performer"
    cells = [
        made.kernel_cell("performer", hyperparameters=usual),
        made.kernel_cell("performer", hyperparameters=usual | {"num_features": 64}),
        made.kernel_cell("performer", hyperparameters=usual, compile="inductor"),
    ]
    names = row_names(cells)
    assert [names[identity(cell)] for cell in cells] == [
        "performer",
        "performer num_features=64",
        "performer inductor",
    ]


def test_a_second_mechanism_of_one_label_is_told_apart_by_its_name():
    cells = [made.kernel_cell("mine", mechanism=name) for name in ("nala", "linear")]
    assert list(row_names(cells).values()) == ["mine", "mine mechanism=linear"]


def test_a_row_of_ones_own_keeps_the_name_that_it_had_before_an_override_was_tried():
    first, other = (made.kernel_cell("mine", hyperparameters={"alpha": x}) for x in (1.0, 0.5))
    again = made.kernel_cell("mine", hyperparameters={"alpha": 1.0}, seq_len=64)
    for cells in ([first], [first, other], [first, other, again]):
        assert row_names(cells)[identity(first)] == "mine"
    assert row_names([first, other, again])[identity(other)] == "mine alpha=0.5"


def test_a_hyperparameter_that_the_first_records_lack_renames_no_row():
    usual = settings_of("deltanet")
    assert usual is not None and usual.pop("mechanism") == "deltanet"
    new = made.kernel_cell("deltanet", hyperparameters=usual)
    old_values = {name: usual[name] for name in usual if name != "negative_eigenvalues"}
    old = made.kernel_cell("deltanet", hyperparameters=old_values)
    other = made.kernel_cell("deltanet", hyperparameters=usual | {"negative_eigenvalues": True})
    assert len(old_values) == len(usual) - 1 and identity(old) == identity(new)
    names = row_names([old, other, new])
    assert names[identity(old)] == "deltanet"
    assert names[identity(other)] == "deltanet negative_eigenvalues=True"
