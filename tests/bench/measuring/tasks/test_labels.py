"""Answers of the sequence tasks, found again by slow and obvious programs."""

from itertools import pairwise

import pytest
import torch

from bench.measuring.tasks.base import NO_ANSWER, Split, build_task
from tests.bench.measuring.tasks.small import drawn, examples


def shown(name, split=Split.TRAIN, **settings):
    """(inputs, {place: answer}) of each example."""
    for inputs, targets, places in examples(drawn(name, split, **settings)):
        asked = zip(places, targets, strict=True)
        yield inputs, {place: target for place, target in asked if target != NO_ANSWER}


@pytest.mark.parametrize("filler", ["zero", "random", "harmless"])
@pytest.mark.parametrize("split", Split)
def test_mqar_asks_for_the_value_of_each_key_once_and_at_every_second_place(filler, split):
    for inputs, answers in shown("mqar", split, filler=filler):
        keys, values = inputs[:8:2], inputs[1:8:2]
        meaning = dict(zip(keys, values, strict=True))
        assert len(meaning) == len(set(values)) == 4
        assert all(0 < k < 4096 for k in keys) and all(4096 <= v < 8192 for v in values)
        assert {inputs[place] for place in answers} == set(keys)
        assert all(place >= 8 and place % 2 == 0 for place in answers)
        assert all(answer == meaning[inputs[place]] for place, answer in answers.items())
        others = [t for place, t in enumerate(inputs) if place >= 8 and place not in answers]
        assert (set(others) == {0}) == (filler == "zero")
        assert not {inputs[place + 1] for place in answers} & set(values)


def test_mqar_asks_early_places_more_often_as_its_power_law_says():
    answers = drawn("mqar", count=20, batch_size=500, num_train_examples=0, num_pairs=1)
    places = (torch.cat([batch.positions for batch in answers]).flatten() - 2) // 2
    weights = torch.arange(1, 32, dtype=torch.float64) ** -0.99
    found = places.bincount(minlength=31) / len(places)
    assert (found - weights / weights.sum()).abs().max() < 0.02


def test_based_trains_on_five_lengths_and_is_tested_on_one():
    small = {"based_mix": True, "vocab_size": 256, "num_train_examples": 144, "batch_size": 4}
    sizes = {(b.inputs.shape[1], b.targets.shape[1]) for b in drawn("mqar", count=40, **small)}
    assert sizes == {(64, 4), (128, 8), (256, 16), (256, 32), (256, 64)}
    assert {b.inputs.shape[1] for b in drawn("mqar", Split.TEST, **small)} == {64}
    assert build_task("mqar", small).geometry.seq_len == 256


@pytest.mark.parametrize("split", Split)
def test_associative_recall_answers_with_the_value_shown_beside_the_key(split):
    for inputs, answers in shown("associative_recall", split):
        assert inputs[20] == 9 and len(inputs) == 22
        meaning = dict(zip(inputs[:20:2], inputs[1:20:2], strict=True))
        assert answers[21] == meaning[inputs[21]]
        if split is Split.TRAIN:
            assert [answers[place] for place in range(21)] == inputs[1:]
        else:
            assert answers.keys() == {21}


@pytest.mark.parametrize("split", Split)
def test_induction_answers_with_what_followed_the_mark(split):
    for inputs, answers in shown("induction", split):
        first, last = (place for place, token in enumerate(inputs) if token == 19)
        assert last == 30 and answers[30] == inputs[first + 1]
        assert len(answers) == (31 if split is Split.TRAIN else 1)


def test_copies_are_the_string_and_marks_say_nothing():
    for inputs, answers in shown("copy"):
        assert inputs[16:] == [8] * 16
        assert [answers[place] for place in range(16, 32)] == inputs[:16]
    for inputs, answers in shown("selective_copy"):
        assert inputs[48:] == [9] * 8
        assert [answers[place] for place in range(48, 56)] == [t for t in inputs[:48] if t != 8]
    (level,) = build_task("copy", {}).plateaus().values()
    assert 0.2 < level < 0.3


@pytest.mark.parametrize("name", ["mad_recall", "mad_noisy_recall"])
@pytest.mark.parametrize("as_published", [True, False])
def test_mads_recall_asks_for_values_of_keys_that_came_before(name, as_published):
    for split in Split:
        for inputs, answers in shown(name, split, as_published=as_published):
            meaning, expected = {}, {}
            last = answers[126]
            for place in range(0, 127, 2):
                key, value = inputs[place], [*inputs, last][place + 1]
                if key < 8:
                    if key in meaning:
                        expected[place] = meaning[key]
                        assert value == meaning[key]
                    meaning[key] = value
                    assert 8 <= value < 16
                else:
                    assert name == "mad_noisy_recall" and min(key, value) >= 16
            assert 126 in expected
            if split is Split.TRAIN and as_published:
                assert [answers[place] for place in range(127)] == [*inputs[1:], last]
            else:
                assert answers == expected


def test_mads_fuzzy_recall_asks_for_words_of_words_that_came_before():
    for inputs, answers in shown("mad_fuzzy_recall", Split.TEST):
        tokens = [*inputs, answers[127]]
        start = next(place for place, token in enumerate(tokens) if token != 15)
        words, meaning, expected = [], {}, {}
        for place in range(start, 129):
            token, is_key = tokens[place], tokens[place] < 7
            if is_key and (not words or words[-1][1]):
                words.append(([], [], place))
            words[-1][0 if is_key else 1].append(token)
            if not is_key and tuple(words[-1][0]) in meaning:
                expected[place - 1] = meaning[tuple(words[-1][0])][len(words[-1][1]) - 1]
            if place == 128 or (not is_key and tokens[place + 1] < 7):
                meaning.setdefault(tuple(words[-1][0]), words[-1][1])
        assert all(len(set(key)) == len(key) == 3 for key, _, _ in words)
        assert answers == expected


def test_mads_selective_copy_never_ends_on_a_blank_unless_mended():
    ends = {True: set(), False: set()}
    for as_published in ends:
        for inputs, answers in shown("mad_selective_copy", count=20, as_published=as_published):
            assert inputs[47] == 15 and set(inputs[48:]) == {14}
            string = [token for token in inputs[:47] if token != 14]
            assert [answers[place] for place in range(48, 64)] == string
            ends[as_published].add(inputs[46] == 14)
    assert ends == {True: {False}, False: {True, False}}


def test_mads_compression_asks_for_all_tokens_as_published_and_for_what_can_be_known_mended():
    noisy = {"noise_share": 0.3, "noise_vocab_size": 4}
    for batch in drawn("mad_compression", **noisy):
        assert torch.equal(batch.targets, batch.inputs) and (batch.inputs[:, -1] == 15).all()
    for batch in drawn("mad_compression", as_published=False, **noisy):
        is_known = batch.inputs < 11
        assert torch.equal(batch.targets != NO_ANSWER, is_known)
        assert torch.equal(batch.targets[is_known], batch.inputs[is_known])
    mended = build_task("mad_compression", {"as_published": False, **noisy})
    assert mended.chance() == pytest.approx(1 / 11)
    task = build_task("mad_compression", {"embed_dim": 16, "num_heads": 2})
    assert task.chance() == pytest.approx((31 / 15 + 1) / 32)  # the last token is always the same
    assert task.head(16)(torch.zeros(3, 1, 16)).shape == (3, 32, 16)


def test_mads_memorization_is_one_table_that_no_example_shows():
    table = {}
    for split in Split:
        for inputs, answers in shown("mad_memorization", split, seed=5, count=20):
            assert list(answers) == list(range(1, 32, 2)) and set(inputs[1::2]) == {255}
            for place, answer in answers.items():
                assert table.setdefault(inputs[place - 1], answer) == answer
                assert inputs[place - 1] < 127 <= answer < 255
    assert len(set(table.values())) == len(table)


def value_of(tokens):
    """Work an expression out, innermost brackets first."""
    tokens = list(tokens)
    while len(tokens) > 1:
        close = tokens.index(14)
        begin = max(
            place
            for place in range(close)
            if isinstance(tokens[place], int) and 10 <= tokens[place] < 14
        )
        args = sorted(float(token) for token in tokens[begin + 1 : close])
        middle = (args[(len(args) - 1) // 2] + args[len(args) // 2]) / 2
        values = {10: args[0], 11: args[-1], 12: int(middle), 13: sum(args) % 10}
        tokens[begin : close + 1] = [float(values[tokens[begin]])]
    return tokens[0]


@pytest.mark.parametrize("split", Split)
def test_listops_is_worked_out_bracket_by_bracket(split):
    for inputs, answers in shown("listops", split):
        ((place, answer),) = answers.items()
        assert 10 < place + 1 < 60 and set(inputs[place + 1 :]) <= {15}
        numbers = [float(token) if token < 10 else token for token in inputs[: place + 1]]
        assert value_of(numbers) == answer


@pytest.mark.parametrize("split", Split)
def test_chomskys_answers_follow_from_the_strings(split):
    def strings(name):
        for inputs, answers in shown(name, split):
            yield [token for token in inputs if token < 2], inputs, answers

    for string, _, answers in strings("parity"):
        assert answers == {len(string) - 1: sum(string) % 2}
    for string, _, answers in strings("even_pairs"):
        changes = sum(a != b for a, b in pairwise(string))
        assert answers == {len(string) - 1: int(changes % 2 == 0)}
    for string, inputs, answers in strings("reverse_string"):
        size = len(string)
        assert [answers[place] for place in range(size, 2 * size)] == string[::-1]
        assert len(answers) == size and inputs[size : 2 * size] == [2] * size


@pytest.mark.parametrize("split", Split)
def test_causal_recall_is_recall_with_later_queries(split):
    for inputs, answers in shown("recall", split, causal=True, seq_len=32):
        meaning = dict(zip(inputs[:8:2], inputs[1:8:2], strict=True))
        assert answers == {place: meaning[inputs[place]] for place in answers}
        assert len(answers) == 4 and min(answers) >= 8 + 4  # two convolutions reach four back


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mqar", {"seq_len": 14}, "seq_len is 14; a whole number of 16 or more"),
        ("mqar", {"filler": "one"}, "filler=one is not known. Known: harmless, random, zero"),
        ("associative_recall", {"context_len": 9}, "context_len is 9; it must be a multiple of 2"),
        ("mad_noisy_recall", {"vocab_size": 18}, "4 tokens or more have to be left"),
        ("listops", {"max_depth": 2}, "no expression has more than 12 tokens"),
        ("parity", {"min_len": 41}, "max_len is 40; a whole number of 41 or more"),
        ("canvas", {"num_digits": 2, "class_token": False}, "two answers are read at the class"),
        ("word_problem", {"group": "M11"}, "group is 'M11'; Z2 to Z999, D3 to D500, S2 to S6"),
        ("word_problem", {"softmax_layers": 2}, "softmax_layers is 2 and num_layers is 1"),
        ("tile_recall", {"num_pairs": 9}, "num_signs is 8; a whole number of 9 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build_task(name, settings)
