"""All checks of a mechanism: which apply, and how each ends."""

import torch

import attentions
from attentions.testing.check import Broken, Untestable
from attentions.testing.suite import CHECKS, CLAIMS, cases_of
from tests.attentions.testing.lies import spoilt

SOUND = {"forward": spoilt("softmax_explicit", lambda c: c.out)}


def endings(name, *claims):
    """Form, and how it ended, of each check of these claims, or of all."""
    found = []
    for case in cases_of(name):
        if case.claim not in (claims or CLAIMS):
            continue
        try:
            case.run(lambda *_: None)
            found.append((case.form, "passed", ""))
        except Untestable as why:
            found.append((case.form, "skipped", str(why)))
        except Broken as error:
            found.append((case.form, "failed", str(error)))
    return found


def test_a_sound_mechanism_passes_all_checks(register):
    assert {how for _, how, _ in endings(register("softmax_explicit", **SOUND))} <= {
        "passed",
        "skipped",
    }


def test_what_cannot_be_tested_here_is_not_a_failure(register):
    def __init__(self, geometry):
        raise ImportError("spoilt needs flash-attn: pip install attnbench[flash]")

    ended = endings(register("softmax_explicit", __init__=__init__), "shape")
    assert all(how == "skipped" and "flash-attn" in words for _, how, words in ended)
    ended = endings(register("gla", reference=attentions.Attention.reference), "reference")
    assert all(how == "skipped" and "no slow form" in words for _, how, words in ended)
    name = register("softmax_explicit", {"devices": ("cuda",)}, **SOUND)
    assert {how for _, how, _ in endings(name, "shape")} == {"skipped"}
    name = register(
        "softmax_explicit", {"dtypes": ("float32",), "backward_devices": ("cuda",)}, **SOUND
    )
    assert "passed" in {how for _, how, _ in endings(name, "precision")}
    assert {how for _, how, _ in endings(name, "gradients")} == {"skipped"}


def test_a_card_is_compared_with_the_cpu(monkeypatch):
    def card(check_available):
        return torch.device("cpu")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", card)
    assert endings("linear", "cuda") == [("linear", "passed", ""), ("linear-causal", "passed", "")]


def test_every_claim_has_a_check_and_every_check_a_claim():
    assert {check.claim for check in CHECKS} == set(CLAIMS)
    assert all(check.run.__doc__ for check in CHECKS)
