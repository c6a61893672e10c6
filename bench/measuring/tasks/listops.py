"""ListOps of the Long Range Arena: the value of nested operations on digits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median

import torch

from bench.measuring.tasks.base import (
    AtLeast2,
    Batch,
    Recipe,
    Size,
    Split,
    register_task,
    whole_number,
)
from bench.measuring.tasks.generated import Generated

MIN, MAX, MED, SUM, END, PADDING = range(10, 16)
"""Token ids; 0 … 9 are the digits. An operator opens its bracket."""
OPERATORS = (MIN, MAX, MED, SUM)
OPERATOR_SHARE = 0.25
"""Nodes, above the greatest depth, that are operations and not digits."""
_NUM_SAMPLED = 500
"""Expressions from which the share of the most frequent value is estimated."""


@register_task("listops")
@dataclass(kw_only=True, eq=False)
class ListOps(Generated):
    """Name the value of ``[MAX 4 [MIN 2 9 ] [SM 7 5 ] ]``: least, greatest, median, sum modulo 10.

    The grammar of Nangia and Bowman, 2018 (arXiv:1804.06028) as Tay et al., 2020 (Long Range Arena,
    arXiv:2011.04006) draw it: a node is an operation with a probability of 1/4, at the greatest
    depth never, and has 2 … `max_args` arguments; trees are drawn until one has a length strictly
    between the two bounds. A median between two digits is rounded down.

    Deviations: the answer is read at the bracket that closes the whole, not at an added token;
    padding follows and is not masked; examples are fresh at every step unless their number is set
    (source: 96,000); one in eight of all examples is kept for testing, while the source iterates
    over a set, so that its split differs from run to run. Model and steps are those of the small
    protocol of Xiong et al., 2021 (Nyströmformer), as far as this harness's model goes.

    Raises:
        ValueError: bounds between which no expression has its length.
    """

    min_len: Size = 500
    """Bound below: examples have more tokens than this."""
    max_len: Size = 2000
    """Bound above: and fewer than this."""
    max_depth: AtLeast2 = 10
    """Brackets within brackets, the digits inside counted as well."""
    max_args: AtLeast2 = 10
    """Arguments of an operation."""
    causal: bool = False
    """Whether a token sees only those before it; the closing bracket sees all in both."""
    num_test_examples: Size = 2000

    default_recipe = Recipe(num_heads=2, num_steps=5000, batch_size=32, learning_rate=1e-3)
    guess = "the most frequent value"
    num_classes = 10
    vocab_size = PADDING + 1

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("max_len", self.max_len, at_least=self.min_len + 2)
        longest = 1
        for _ in range(1, self.max_depth):
            longest = min(2 + self.max_args * longest, self.max_len)
        if longest <= self.min_len:
            raise ValueError(
                f"min_len is {self.min_len}; with max_depth={self.max_depth} and "
                f"max_args={self.max_args} no expression has more than {longest} tokens."
            )
        between = range(self.min_len + 1, min(longest + 1, self.max_len))
        if not any(_is_length(length, self.max_args) for length in between):
            raise ValueError(
                f"min_len is {self.min_len} and max_len is {self.max_len}; with "
                f"max_args={self.max_args} no expression has a length between them. Raise max_len."
            )
        self.seq_len = self.max_len - 1

    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """Expressions of the wanted lengths, padded at the end."""
        draw = random.Random(int(torch.randint(2**31, (), generator=stream)))
        inputs = torch.full((count, self.seq_len), PADDING)
        targets = torch.empty(count, 1, dtype=torch.long)
        positions = torch.empty(count, 1, dtype=torch.long)
        for row in range(count):
            tokens, value = self._expression(draw)
            inputs[row, : len(tokens)] = torch.tensor(tokens)
            targets[row], positions[row] = value, len(tokens) - 1
        return Batch(inputs=inputs, targets=targets, positions=positions)

    def _expression(self, draw: random.Random) -> tuple[list[int], int]:
        while True:
            tokens: list[int] = []
            value = self._node(1, tokens, draw)
            if self.min_len < len(tokens) < self.max_len:
                return tokens, value

    def _node(self, depth: int, tokens: list[int], draw: random.Random) -> int:
        """Append a node's tokens; its value, which means nothing once there are too many tokens."""
        if len(tokens) >= self.max_len:
            return 0
        if depth == self.max_depth or draw.random() > OPERATOR_SHARE:
            digit = int(10 * draw.random())
            tokens.append(digit)
            return digit
        operator = OPERATORS[int(len(OPERATORS) * draw.random())]
        tokens.append(operator)
        num_args = draw.randint(2, self.max_args)
        values = [self._node(depth + 1, tokens, draw) for _ in range(num_args)]
        tokens.append(END)
        return _apply(operator, values)

    def chance(self) -> float:
        """The share of the most frequent value, over expressions like those of the test set."""
        draw = random.Random(0)
        values = [self._expression(draw)[1] for _ in range(_NUM_SAMPLED)]
        return max(values.count(digit) for digit in range(10)) / _NUM_SAMPLED


def _is_length(length: int, max_args: int) -> bool:
    """Whether an expression may have so many tokens, 2 or more, if its depth allows that many.

    An operation in the place of a digit adds 3 … `max_args` + 1 tokens: two brackets and 2 …
    `max_args` arguments, less the digit.
    """
    num_operations = (length - 1) // 3  # the most there can be
    return length - 1 <= (max_args + 1) * num_operations


def _apply(operator: int, values: list[int]) -> int:
    if operator == MIN:
        return min(values)
    if operator == MAX:
        return max(values)
    return int(median(values)) if operator == MED else sum(values) % 10
