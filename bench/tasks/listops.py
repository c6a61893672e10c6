"""ListOps of the Long Range Arena: the value of nested operations on digits."""

from __future__ import annotations

import random
from statistics import median

import torch

from bench.tasks.base import Batch, Recipe, Split, register_task, whole_number, yes_or_no
from bench.tasks.generated import Generated

MIN, MAX, MED, SUM, END, PADDING = range(10, 16)
"""Token ids; 0 … 9 are the digits. An operator opens its bracket."""
OPERATORS = (MIN, MAX, MED, SUM)
OPERATOR_SHARE = 0.25
"""Nodes, above the greatest depth, that are operations and not digits."""
_NUM_SAMPLED = 500
"""Expressions from which the share of the most frequent value is estimated."""


@register_task("listops")
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

    Args:
        recipe: model and training.
        min_len: examples have more tokens than this.
        max_len: and fewer than this.
        max_depth: brackets within brackets, the digits inside counted as well.
        max_args: arguments of an operation.
        causal: whether a token sees only those before it; the closing bracket sees all in both.
        num_train_examples: as of `Generated`.
        num_test_examples: as of `Generated`.

    Raises:
        ValueError: bounds that leave no length between them, or a size too small.
    """

    default_recipe = Recipe(num_heads=2, num_steps=5000, batch_size=32, learning_rate=1e-3)
    guess = "the most frequent value"
    num_classes = 10
    vocab_size = PADDING + 1

    def __init__(
        self,
        recipe: Recipe,
        *,
        min_len: int = 500,
        max_len: int = 2000,
        max_depth: int = 10,
        max_args: int = 10,
        causal: bool = False,
        num_train_examples: int = 0,
        num_test_examples: int = 2000,
    ) -> None:
        super().__init__(
            recipe, num_train_examples=num_train_examples, num_test_examples=num_test_examples
        )
        whole_number("min_len", min_len)
        whole_number("max_depth", max_depth, at_least=2)
        whole_number("max_args", max_args, at_least=2)
        whole_number("max_len", max_len, at_least=min_len + 2)
        longest = 1
        for _ in range(1, max_depth):
            longest = min(2 + max_args * longest, max_len)
        if longest <= min_len:
            raise ValueError(
                f"min_len is {min_len}; with max_depth={max_depth} and max_args={max_args} no "
                f"expression has more than {longest} tokens."
            )
        yes_or_no("causal", causal)
        self.causal = causal
        self.min_len, self.max_len = min_len, max_len
        self.max_depth, self.max_args = max_depth, max_args
        self.seq_len = max_len - 1

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


def _apply(operator: int, values: list[int]) -> int:
    if operator == MIN:
        return min(values)
    if operator == MAX:
        return max(values)
    return int(median(values)) if operator == MED else sum(values) % 10
