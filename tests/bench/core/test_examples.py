"""Files of examples: read where they are sound, refused where they are not."""

import base64
import json
from typing import Any

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.examples import examples_folder, read_examples

DIGEST = "0123456789abcdef"
TOKENS: dict[str, Any] = {
    "task": "recall",
    "test_set": DIGEST,
    "num_examples": 2,
    "inputs": [[1, 2, 3], [4, 5, 6]],
    "targets": [[2, -100], [5, 6]],
    "positions": [[1, 2], [0, 2]],
}
PIXELS = {
    "shape": [2, 3, 1],
    "low": 0.0,
    "high": 1.0,
    "uint8_base64": base64.b64encode(bytes(6)).decode(),
}
IMAGES = TOKENS | {"task": "digits", "inputs": PIXELS, "targets": [7, 8], "positions": None}


def written(out, content, name=DIGEST):
    file = examples_folder(out) / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_all_answers_may_be_read_at_one_token(tmp_path):
    assert read_examples(written(tmp_path, TOKENS | {"positions": [[2], [2]]})).num_asked == [1, 2]


def test_tokens_and_images_are_read(tmp_path):
    tokens = read_examples(written(tmp_path, TOKENS))
    assert tokens.num_asked == [1, 2] and tokens.answers == TOKENS["targets"]
    images = read_examples(written(tmp_path, IMAGES))
    assert images.num_asked == [1, 1] and images.answers == [[7], [8]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "Expecting"),
        ("[]", "it is no JSON object"),
        (TOKENS | {"num_examples": 3}, "inputs are of 2 examples, and num_examples is 3"),
        (TOKENS | {"targets": [[2, -100], [5, 6, 7]]}, "targets and positions are not equally"),
        (TOKENS | {"targets": [[2, -100], [5, "<b>"]]}, "not all whole numbers"),
        (TOKENS | {"test_set": "f" * 16}, "the file is named otherwise"),
        (IMAGES | {"inputs": PIXELS | {"shape": [2, 4, 1]}}, "inputs have 6 bytes"),
        (IMAGES | {"inputs": PIXELS | {"uint8_base64": "é"}}, "neither token ids nor bytes"),
        ('{"a":1,"a":1}', "is given twice"),
    ],
)
def test_what_is_no_file_of_examples_is_refused(tmp_path, content, words):
    with pytest.raises(ConfigError, match="is not a file of examples") as caught:
        read_examples(written(tmp_path, content))
    assert words in str(caught.value)
