from __future__ import annotations

from bench.catalogue.rows import settings_of
from bench.publish.naming import identity, row_names
from tests import records as made


def test_a_row_is_called_by_its_entry() -> None:
    cells = [made.kernel_cell("nala", seq_len=n, hyperparameters={"alpha": 1}) for n in (1, 2)]
    assert set(row_names(cells).values()) == {"nala"}


def test_one_entry_set_in_two_ways_is_two_rows_named_by_what_differs() -> None:
    settings = [{"num_features": 64, "seed": 0}, {"num_features": 256, "seed": 0}]
    cells = [made.kernel_cell("performer", hyperparameters=values) for values in settings]
    names = row_names([*cells, made.kernel_cell("nala")])
    assert [names[identity(cell)] for cell in cells] == [
        "performer num_features=64",
        "performer num_features=256",
    ]
    assert names[identity(made.kernel_cell("nala"))] == "nala"


def test_an_override_renames_no_row_that_is_set_as_its_yaml_says() -> None:
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


def test_one_label_for_two_mechanisms_is_told_apart_by_the_mechanism() -> None:
    cells = [made.kernel_cell("mine", mechanism=name) for name in ("nala", "linear")]
    assert list(row_names(cells).values()) == ["mine mechanism=nala", "mine mechanism=linear"]
