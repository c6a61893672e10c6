"""A cache for Transformers that holds the state of a recurrence instead of keys and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ...steps import map_tensors

_TAG = "_attnbench_layer"
"""Attribute of a key tensor by which the attention finds the layer that it went through."""


class RecurrentLayer(CacheLayerMixin):
    """The state of one attention.

    `update` hands the new keys and values on as they are, marked, so that the attention knows where
    its state lies: Transformers gives an attention no cache.

    Attributes:
        state: what the mechanism's `step` returned last; None before the first token.
    """

    is_sliding = False
    is_croppable = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self.state: Any = None
        self.num_tokens = 0
        self.is_waiting = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing but where the tensors lie: the mechanism makes its own state."""
        self.device, self.dtype = key_states.device, key_states.dtype
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """The new keys and values, marked.

        Raises:
            ValueError: the attention has not taken the tokens of the last call.
        """
        if self.is_waiting:
            raise ValueError(
                "attnbench: the tokens of the last call never reached a recurrent mechanism, so "
                "the state is behind; RecurrentCache needs attn_implementation='attnbench:...' and "
                "a model that passes keys on as its cache returns them. Otherwise use_cache=False."
            )
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.num_tokens += key_states.shape[-2]
        self.is_waiting = True
        # A new view each time: a tensor of the model is not marked for good.
        marked = key_states.view_as(key_states)
        setattr(marked, _TAG, self)
        return marked, value_states

    def advance(self, state: Any) -> None:
        """Keep the state after the tokens of this call."""
        self.state, self.is_waiting = state, False

    def get_seq_length(self) -> int:
        """Tokens so far."""
        return self.num_tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """All tokens count, as if their keys were here: (length, offset)."""
        return self.num_tokens + query_length, 0

    def get_max_length(self) -> int:
        """-1: no greatest length."""
        return -1

    def get_max_cache_shape(self) -> int:
        """The same under its older name."""
        return self.get_max_length()

    def reset(self) -> None:
        """Forget all tokens."""
        self.state, self.num_tokens, self.is_waiting = None, 0, False
        self.is_initialized = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each row go on from the row that beam search chose for it."""
        self._each_tensor(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row so many times."""
        self._each_tensor(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Some of the rows."""
        self._each_tensor(lambda x: x[indices])

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: a sum does not give back what went into it."""
        raise ValueError(
            "attnbench: a recurrent state cannot drop its last tokens, as assisted decoding asks; "
            "use another cache, or use_cache=False."
        )

    def _each_tensor(self, change: Callable[[Tensor], Tensor]) -> None:
        self.state = map_tensors(self.state, change)


class RecurrentCache(Cache):
    """Decode with a state of constant size: memory and time per token do not grow.

    For one text at a time or several of the same length: padding is refused, as `step` takes no
    mask.

    >>> from attentions.huggingface import RecurrentCache
    >>> RecurrentCache().get_seq_length()
    0
    """

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=RecurrentLayer)

    def get_conv_state(self, *args: Any, **keywords: Any) -> Any:
        """Refused: a model's own recurrent layers, as in Qwen3-Next, keep other states.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "attnbench: this model has recurrent layers of its own, and a RecurrentCache has no "
            "place for their states; use the model's own cache, or use_cache=False."
        )

    update_conv_state = get_recurrent_state = update_recurrent_state = get_conv_state


def layer_of(key: Tensor) -> RecurrentLayer | None:
    """The layer that these keys went through, None if it was another cache's or none."""
    return getattr(key, _TAG, None)
