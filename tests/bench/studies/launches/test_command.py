"""What is asked, refused and shown; no Triton is needed."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from bench.core.cli.errors import ConfigError
from bench.publishing.document import csv_text, markdown
from bench.studies.launches import command
from bench.studies.launches.command import Launches, adapters, calls_of, cards, main
from bench.studies.launches.noting import Counted, Noted
from bench.studies.launches.page import CAVEAT, document, flat

CARD = {"name": "card", "arch": 80, "multiprocessors": 10, "shared_bytes": 1_000, "source": "x"}


def launch(number=1, grid=(4, 2, 1), **facts):
    usual = {"warps": 4, "registers": 32, "spilled_bytes": 0, "shared_bytes": 64, "matrix": {}}
    usual |= {"launch": number, "phase": "forward", "kernel": f"k{number}", "refused": ""}
    return usual | {"grid": list(grid)} | facts


def answer(*launches, seq_len=64, **facts):
    asked = {"entry": "gla_fla", "card": "c", "mode": "forward", "batch_size": 1, "num_heads": 4}
    asked |= {"head_dim": 64, "dtype": "bfloat16", "changed": {}, "seq_len": seq_len}
    found = {"torch_operators": 3, "temporary_bytes": 2_000_000, "versions": {"triton": "3.9.0"}}
    return asked | found | {"launches": list(launches)} | facts


def page(*found, hidden=(), is_page=True):
    return markdown(document(found, hidden, {"c": CARD}, is_page))


def test_a_row_has_a_range_over_configurations_and_a_grid_for_each_length():
    short = answer(launch(), launch(registers=40, matrix={"HMMA": 8}))
    text = page(short, answer(launch(grid=(8, 2, 1)), seq_len=128))
    (row,) = (line for line in text.splitlines() if line.startswith("|   1 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert ",".join(cells) == "1,k1,4×2×1,0.80,8×2×1,1.60,4,32 to 40,0,64,0 to 8 HMMA"
    assert text.count(CAVEAT) == 1
    assert "1 launch forward, 3 operators of torch, 2.0 and 2.0 MB of temporaries" in text
    assert "- gla_fla, c at 64: k1\n" in text and "- gla_fla: k1\n" in text


def test_what_failed_or_is_not_visible_is_said():
    text = page(answer(error="ValueError: no"), answer(seq_len=8), hidden=["softmax_xformers"])
    assert "could not be called. ValueError: no" in text
    assert text.count("not visible: compiled CUDA") == 2
    assert CAVEAT not in text
    refused = page(answer(launch(refused="grid y 70,000 > 65,535")))
    assert "| grid y 70,000 > 65,535 |" in refused


def test_the_csv_has_a_line_per_configuration():
    (table,) = flat([answer(launch(), launch(matrix={"HMMA": 8}), card="c")]).blocks
    head, *lines = csv_text(table).splitlines()
    assert head.startswith("entry,card,mode,seq_len") and len(lines) == 2
    assert "4x2x1" in lines[0] and "HMMA:8" in lines[1]


@pytest.mark.parametrize(
    ("grid", "warps", "registers", "shared", "expected"),
    [
        ((1, 65_535, 65_535), 4, 255, 1_000, ""),
        ((1, 65_536, 1), 4, 32, 0, "grid y 65,536 > 65,535"),
        ((1, 1, 1), 64, 8, 0, "threads 2,048 > 1,024"),
        ((1, 1, 1), 16, 129, 0, "registers 69,632 > 65,536"),
        ((1, 1, 1), 4, 32, 1_001, "shared memory 1,001 B > 1,000 B"),
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


def test_delta_rules_are_called_as_their_layers_do_unless_asked_otherwise():
    rows = {"gated_deltanet_fla": {"mechanism": "gated_deltanet_fla", "normalise_queries": False}}
    asked = Launches.read({"attention": rows, "seq_len": [64, 128]})
    assert [call["settings"]["normalise_queries"] for call in calls_of(asked)] == [True, True]
    given = ("attention.gated_deltanet_fla.normalise_queries",)
    assert not calls_of(asked, given)[0]["settings"]["normalise_queries"]


def test_cards_have_a_source_and_adapters_without_triton_are_named():
    assert {"h100", "a100"} <= cards().keys()
    assert all(card["source"] and card["shared_bytes"] >= 101_376 for card in cards().values())
    assert {"gla_fla", "softmax_flash_attn", "softmax_xformers"} <= set(adapters())


def test_without_triton_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="make kernels"):
        command.kernels_path()


def test_the_command_asks_a_process_of_its_own(monkeypatch, tmp_path, capsys):
    def run(words, env, **_):
        asked = json.loads(Path(words[-2]).read_text())
        assert "TRITON_INTERPRET" not in env and env["CUDA_VISIBLE_DEVICES"] == ""
        lines = [json.dumps(answer(launch()) | call) + "\n" for call in asked["calls"]]
        Path(words[-1]).write_text("".join(lines))
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(command.subprocess, "run", run)
    monkeypatch.setattr(command, "kernels_path", lambda: "")
    out = tmp_path / "launches.jsonl"
    words = ["gla_fla", "softmax_xformers", "card=[h100,a100]", f"out={out}"]
    assert main(words) == 0
    assert [json.loads(line)["card"] for line in out.read_text().splitlines()] == ["h100", "a100"]
    assert "not visible: compiled CUDA" in capsys.readouterr().out
