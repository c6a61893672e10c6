import json

import pytest

from bench.diagnose import main
from bench.studies.diagnostics.study import write_page

TASK = [
    *("task.recall.num_steps=4", "task.recall.batch_size=4", "task.recall.vocab_size=16"),
    *("task.recall.num_pairs=2", "task.recall.seq_len=16", "task.recall.num_test_examples=16"),
    *("task.recall.embed_dim=8", "task.recall.num_heads=1"),
]
SMALL = ["num_heads=1", "head_dim=4", "seq_len=8", "norms=[0.5,1,4]", "token_norms=[2]"]
TINY = [*SMALL, "num_seeds=2", "lengths=[8]", "num_examples=2", "fine_tune_steps=2", *TASK]


def lines_of(folder):
    """All but the first, which says where they come from."""
    first, *lines = (folder / "diagnostics.jsonl").read_text().splitlines()
    assert json.loads(first)["command"].startswith("attnbench diagnose 'attention=[")
    return [json.loads(line) for line in lines]


def test_rows_on_random_inputs_in_models_and_in_the_place_of_softmax(tmp_path, exits):
    words = ["attention=[softmax,flatten]", *TINY, f"out={tmp_path}"]
    shown = exits(0, main(words))
    assert "[6/6] flatten, in softmax's place: done" in shown and "Drop-in regret" in shown
    lines = lines_of(tmp_path)
    assert {line["inputs"] for line in lines} >= {"random", "recall, layer 0", "recall, layer 1"}
    assert {len(line["samples"]) for line in lines if line["inputs"] == "recall, layer 0"} == {1}
    regret = [
        line["samples"]
        for line in lines
        if (line["attention"], line["measure"], line["at"])
        == ("softmax", "drop-in regret", "before")
    ]
    assert regret == [[0.0]], "softmax in its own place"
    page = (tmp_path / "diagnostics.md").read_text()
    assert "attnbench diagnose 'attention=[softmax,flatten]' num_heads=1" in page
    assert "task.recall.num_steps=4" in page and "From norm 0.5 to" in page
    picture = (tmp_path / "diagnostics" / "entropy-against-norm.svg").read_text()
    assert "softmax" in picture and "flatten" in picture
    (command,) = [line.strip() for line in page.splitlines() if "attnbench diagnose" in line]
    write_page(tmp_path, tmp_path / "again" / "diagnostics.md", command)
    assert (tmp_path / "again" / "diagnostics.md").read_text() == page, "the numbers give the page"
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    kept = (tmp_path / "diagnostics.jsonl").read_bytes()
    assert main(words) == 0
    assert (tmp_path / "diagnostics.jsonl").read_bytes() == kept, "from the checkpoints"


def test_what_has_no_weights_or_no_other_form_is_said(tmp_path, exits):
    rows = "attention=[flatten_layer,lightning,linear,gla_softmax,base_conv_zoology]"
    shown = " ".join(exits(0, main([rows, *TINY, "trained=false", f"out={tmp_path}"])).split())
    assert "flatten_layer has no weights to look at: it owns its projections." in shown
    assert "lightning, random without a mask: it is causal only, so it was given" in shown
    for label in ("gla_softmax", "base_conv_zoology"):
        assert f"{label}, random: it names a mechanism for each layer" in shown
    assert not (tmp_path / "checkpoints").exists()


RAISES = """
from attentions import Attention, Capabilities, register_attention

@register_attention("falls", title="t", source="s", capabilities=Capabilities())
class Falls(Attention):
    def forward(self, q, k, v):
        raise SystemExit("no such GPU")

    def flops(self, shape):
        return 1
"""


def test_a_plugin_that_raises_is_left_out_and_the_others_are_looked_at(
    tmp_path, monkeypatch, exits, own_registry
):
    (tmp_path / "plug_that_falls.py").write_text(RAISES)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["attention=[falls,softmax]", "plugins=[plug_that_falls]", *TINY, "trained=false"]
    shown = " ".join(exits(0, main([*words, f"out={tmp_path / 'out'}"])).split())
    assert "falls, random: left out: SystemExit: no such GPU" in shown
    assert "softmax, random: done" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["attention=[softmx]"], "Did you mean softmax"),
        (["attention=[softmax]", "task=[recall,digits]"], "task names 2 tasks"),
        (["attention=[softmax]", *TASK, "num_examples=17"], "num_examples is 17, and the test set"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_key(words, message, tmp_path, exits):
    assert message in exits(2, main([*words, f"out={tmp_path}"]))
    assert not (tmp_path / "checkpoints").exists(), "before anything is trained"
