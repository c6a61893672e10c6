"""Requests, refusals and pages; no Triton is needed."""

import itertools
import json
import subprocess

import pytest
import torch

from attentions import attention_class
from bench.core.cli.errors import ConfigError
from bench.publishing.document import csv_text, markdown
from bench.studies.launches import study
from bench.studies.launches.noting import Counted, Noted, make_call
from bench.studies.launches.study import Launches, calls_of, main

CARD = {"name": "card", "arch": 80, "multiprocessors": 10, "shared_bytes": 1_000, "source": "x"}


def launch(number=1, grid=(4, 2, 1), **facts):
    usual = {"warps": 4, "registers": 32, "spilled_bytes": 0, "shared_bytes": 64, "matrix": {}}
    usual |= {"launch": number, "phase": "forward", "kernel": f"k{number}", "refused": ""}
    return usual | {"grid": list(grid)} | facts


def answer(*launches, seq_len=64, **facts):
    asked = {"entry": "gla_fla", "card": "c", "mode": "forward", "batch_size": 1, "num_heads": 4}
    asked |= {"num_kv_heads": None, "head_dim": 64, "dtype": "bfloat16", "changed": {}}
    found = {"torch_operators": 3, "temporary_bytes": 2_000_000, "versions": {"triton": "3.9.0"}}
    return asked | found | {"seq_len": seq_len, "configs": "first", "launches": [*launches]} | facts


@pytest.fixture
def card(monkeypatch):
    """`CARD` under the name c, in place of those of cards.yaml."""
    monkeypatch.setattr(study, "cards", lambda: {"c": CARD})


def shown(*found, hidden=()):
    return markdown(study.document(found, hidden))


def test_a_row_has_a_range_over_configurations_and_lengths(card):
    short = answer(launch(), launch(registers=40, matrix={"HMMA": 8}))
    text = shown(short, answer(launch(grid=(5, 2, 1)), seq_len=128, torch_operators=1_002))
    (row,) = (line for line in text.splitlines() if line.startswith("| k1 "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (
        ",".join(cells) == "k1,forward,1,4×2×1 to 5×2×1,0.80 to 1.00,4,32 to 40,0,64,none to 8 HMMA"
    )
    assert text.count(study.CAVEAT) == 1
    assert "1 launch forward, 3 or 1,002 operators of torch, 2.0 and 2.0 MB of temp" in text


def test_what_failed_or_is_not_visible_is_said(card):
    text = shown(answer(error="ValueError: no"), answer(seq_len=8), hidden=["softmax_xformers"])
    assert "card, 64 tokens: could not be called. ValueError: no" in text
    assert text.count("not visible: compiled CUDA") == 2
    assert study.CAVEAT not in text
    assert "after 1 launch forward" in shown(answer(launch(), error="ValueError: no"))
    unseen = {"launch": 2, "phase": "forward", "kernel": "flash-attn", "refused": ""}
    text = shown(answer(launch(refused="grid y 70,000 > 65,535"), unseen))
    assert "| grid y 70,000 > 65,535 |" in text and "| not visible: compiled CUDA |" in text


def test_a_line_per_configuration_in_the_csv_and_one_for_a_mechanism(card, monkeypatch, tmp_path):
    spilled = launch(2, phase="backward", spilled_bytes=4_000)
    found = [answer(launch(spilled_bytes=8), launch(matrix={"HMMA": 8}), spilled)]
    (table,) = study.flat(found).blocks
    head, *lines = csv_text(table).splitlines()
    assert head.startswith("entry,card,mode,seq_len") and len(lines) == 3
    assert "4x2x1,0.8,4,32" in lines[0] and "8 HMMA" in lines[1]
    assert [line.endswith(",suspicious") for line in lines] == [False, False, True]
    monkeypatch.setattr(study, "CSV", tmp_path / "launches.csv")
    study.CSV.write_text(csv_text(table))
    study._stored.cache_clear()
    assert study.in_one_line("gla").startswith(
        "`gla_fla` at 64 tokens on C: 1 launch forward and 1 launch backward, 2 with fewer blocks"
    )
    assert study.in_one_line("nala").startswith("none listed")
    counts, plain = "1 launch forward and 1 launch backward | 2 of 2", "2 | 8 B, k1 | k2 |"
    assert f"| `gla_fla` | {counts} | {plain}" in study.summary()
    study._stored.cache_clear()


@pytest.mark.parametrize(
    ("grid", "warps", "registers", "shared", "expected"),
    [
        ((1, 65_535, 65_535), 4, 255, 1_000, ""),
        ((1, 65_536, 1), 4, 32, 0, "grid y 65,536 > 65,535"),
        ((1, 1, 1), 64, 8, 0, "threads 2,048 > 1,024"),
        ((1, 1, 1), 16, 129, 0, "registers 69,632 > 65,536"),
        ((1, 1, 1), 4, 32, 1_001, "bytes of shared memory 1,001 > 1,000"),
    ],
)
def test_limits_of_a_card(grid, warps, registers, shared, expected):
    assert Noted(CARD).refusal(grid, warps, registers, shared) == expected


def test_views_and_results_in_place_allocate_nothing():
    x = torch.ones(4, 8)
    with Counted() as counted:
        x.transpose(0, 1).add_(1)
        torch.empty(16)
        x + x
    assert (counted.operators, counted.bytes) == (2, 4 * (16 + 32))


class Scaled(attention_class("linear")):
    """Values times a weight."""

    def __init__(self, geometry):
        super().__init__(geometry)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, q, k, v):
        return v * self.weight


@pytest.mark.parametrize(("mode", "temporary"), [("forward", 0), ("forward_backward", 256)])
def test_results_and_gradients_are_not_temporaries(monkeypatch, mode, temporary):
    monkeypatch.setattr("attentions.build_attention", lambda _, geometry: Scaled(geometry))
    (asked,) = calls_of(
        Launches.read(
            {
                "attention": {"linear": {"mechanism": "linear"}},
                "seq_len": 8,
                "num_heads": 2,
                "head_dim": 4,
                "dtype": "float32",
                "mode": mode,
            }
        )
    )
    found = make_call(asked, Noted(CARD), torch.device("cpu"))
    # Of 256 bytes are the output, its gradient by the values, and the summands of the weight's.
    assert found["temporary_bytes"] == temporary


def test_adapters_are_called_as_their_layers_do_unless_asked_otherwise():
    rows = {"gated_deltanet_fla": {"mechanism": "gated_deltanet_fla", "normalise_queries": False}}
    asked = Launches.read({"attention": rows, "seq_len": [64, 128], "configs": "all"})
    assert [call["settings"]["normalise_queries"] for call in calls_of(asked)] == [True, True]
    given = ("attention.gated_deltanet_fla.normalise_queries",)
    assert not calls_of(asked, given)[0]["settings"]["normalise_queries"]
    asked = Launches.read({"attention": {"nsa_fla": {"mechanism": "nsa_fla"}}, "num_heads": 32})
    assert [calls_of(asked)[0][key] for key in ("num_heads", "num_kv_heads")] == [16, 1]
    assert calls_of(asked, ("num_heads",))[0]["num_heads"] == 32


def test_all_configurations_are_listed_for_the_rows_that_are_named():
    asked = Launches.read({"attention": {}, "launches": ["a:b", "a:c"], "configs": ["a:c"]})
    assert [call["configs"] for call in calls_of(asked)] == ["first", "all"]
    with pytest.raises(ConfigError, match="configs=frist is none of the rows"):
        calls_of(Launches.read({"attention": {}, "configs": "frist"}))


def test_a_call_that_ends_its_process_is_told_and_the_others_are_made(monkeypatch):
    def run(words, *, input, **_):
        todo = json.loads(input)["calls"]
        made = [*itertools.takewhile(lambda one: one["entry"] != "ends", todo)]
        said = "".join(json.dumps(one | {"launches": []}) + "\n" for one in made)
        return subprocess.CompletedProcess(words, -9, said, "first words\nlast words\n")

    monkeypatch.setattr(study.subprocess, "run", run)
    entries = ("a", "ends", "b", "ends")
    found = study.listed([{"entry": name} for name in entries], CARD, "")
    ended = "its process ended with -9: last words"
    told = {"a": None, "b": None, "ends": ended}
    assert [(one["entry"], one.get("error")) for one in found] == [(x, told[x]) for x in entries]


def child(monkeypatch, *lines):
    """A process that answers in these words, or every call with one launch."""

    def run(words, env, input, **_):
        assert "TRITON_INTERPRET" not in env and env["CUDA_VISIBLE_DEVICES"] == ""
        made = [answer(launch()) | call for call in json.loads(input)["calls"]]
        said = "".join(json.dumps(line) + "\n" for line in lines or made)
        return subprocess.CompletedProcess(words, 0, said, "")

    monkeypatch.setattr(study.subprocess, "run", run)
    monkeypatch.setattr(study, "kernels_path", lambda: "")


def test_the_command_asks_a_process_of_its_own(monkeypatch, tmp_path, capsys):
    child(monkeypatch)
    out = tmp_path / "launches.jsonl"
    words = ["gla_fla", "softmax_xformers", "card=[h100,a100]", f"out={out}"]
    assert main(words) == 0
    assert [json.loads(line)["card"] for line in out.read_text().splitlines()] == ["h100", "a100"]
    assert "not visible: compiled CUDA" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launches=[json:nope]"], "json:nope cannot be called: AttributeError: no nope. An"),
        (["gla_fla", "card=[z9]"], "card=z9 is not known."),
        (["gal_fla"], "gal_fla"),
        (["nala_layer"], "nala_layer owns its projections"),
        (["gla_fla", "seq_len=0"], "seq_len is 0; it must be 1 or more."),
        (["gla_fla", "head_dim=[64,128]"], "head_dim is the list"),
        (["gla_fla", "dtype=float8"], "dtype=float8 is not known."),
        (["gla_fla", "mode=decode"], "mode=decode is not known."),
        (["gla_fla", "configs=frist"], "configs=frist is none of the rows"),
        (["gla_fla", "sequence=3"], "sequence"),
    ],
)
def test_mistakes_end_with_2_and_a_sentence(words, said, monkeypatch, tmp_path, exits):
    child(monkeypatch, {"mistake": "json:nope cannot be called: AttributeError: no nope"})
    assert said in " ".join(exits(2, main([*words, f"out={tmp_path / 'out'}"])).split())
