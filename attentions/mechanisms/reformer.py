"""Reformer: softmax attention among tokens that share a bucket of a random hash."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, random_seed, whole
from ..maths.feature_maps import direction
from ..precision import in_wide_precision
from ..registry import register_attention


class _Layout(NamedTuple):
    """Where one round's sort puts each token.

    Attributes:
        token: which token is in a slot, N for an empty one; (B, H, slots).
        bucket: of that token, -1 for an empty slot; (B, H, slots), int32.
        slot: where a token is; (B, H, N).
        code: of each token, N + 1 of them; two tokens can meet in this round if the difference of
            their codes is 0 or 1, the query's being the larger. (B, H, N + 1), int32.
        size: slots of a chunk.
    """

    token: Tensor
    bucket: Tensor
    slot: Tensor
    code: Tensor
    size: int


class _Gathered(NamedTuple):
    """Running sums of each query: sum_j exp(s_j - peak) v_j, sum_j exp(s_j - peak), and the peak.

    (B, H, N, E), (B, H, N, 1), (B, H, N, 1). The peak carries no gradient; it cancels.
    """

    values: Tensor
    total: Tensor
    peak: Tensor


@register_attention(
    "reformer",
    title="Reformer (LSH)",
    source="Kitaev et al., 2020, arXiv:2001.04451",
    family="sparse",
    capabilities=Capabilities(causal=True, position_free=False),
)
class Reformer(Attention):
    """Softmax attention of each query to the tokens that share a bucket with it, in some round.

    A round hashes queries by h(x) = argmax [xR; -xR] with a random R, sorts tokens by bucket, cuts
    the order into chunks, and lets each query attend to its own chunk and the one before:

        out_i = sum_j exp(q_i . k_j / sqrt(D)) v_j / sum_j exp(q_i . k_j / sqrt(D)),  k = q / ||q||

    over the tokens j that i met in any round. A token does not attend to itself unless it met no
    other (Sec. 2).

    Hashes are taken in float64: a token near a border must not change its bucket, and so its
    neighbours, with the order of a sum. Many buckets are pairs of two smaller hashes, as in the
    authors' code, or hashing would take time quadratic in N.

    The causal form leaks nothing of the future. Chunks of one sorted order do: how many later
    tokens fall into earlier buckets decides where a chunk ends, and so which of the past is seen.
    There, chunks are cut within a bucket, by a token's rank among earlier ones; that takes up to
    three times as many chunks.

    Hazards:
        - Queries are keys: the k that is passed in is not read and has no gradient.
        - Which tokens meet is random: a close pair may miss each other in every round.
        - The choice of buckets has no gradient.

    Differences:
        - Paper and authors' code attend within a bucket and count a token once; reformer-pytorch
          attends to whole chunks and counts it as often as it was met: ``across_buckets``,
          ``count_duplicates``.
        - In the causal form of the paper later tokens move the borders of chunks, and so which of
          the past is seen; here chunks are cut by ranks among earlier tokens.

    Args:
        geometry: the shape to build for; its ``seq_len`` sets the number of buckets.
        num_rounds: independent hashes; the paper trains with 1 to 8.
        chunk_size: tokens of a chunk; two average buckets, m = 2 N / num_buckets in the paper.
        num_buckets: an even number; 2 N / chunk_size if None.
        across_buckets: attend to all of both chunks, also to tokens of another bucket. Off in the
            paper (Sec. 2) and the authors' code, on in reformer-pytorch. Not in the causal form.
        count_duplicates: count a token as often as it was met. The paper (Appendix A) and the
            authors' code count it once, reformer-pytorch does not.
        seed: of the random rotations.
    """

    rotations: Tensor

    def __init__(
        self,
        geometry: Geometry,
        num_rounds: int = 4,
        chunk_size: int = 64,
        num_buckets: int | None = None,
        across_buckets: bool = False,
        count_duplicates: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(geometry)
        self.num_rounds = whole(self.name, "num_rounds", num_rounds, 1)
        self.chunk_size = whole(self.name, "chunk_size", chunk_size, 1)
        if num_buckets is None:
            num_buckets = 2 * math.ceil(geometry.seq_len / chunk_size)
        if whole(self.name, "num_buckets", num_buckets, 2) % 2:
            raise ValueError(
                f"{self.name}: num_buckets is {num_buckets}; an even number is needed, one bucket "
                "for each direction and one for its opposite."
            )
        self.across_buckets = flag(self.name, "across_buckets", across_buckets)
        if across_buckets and geometry.causal:
            raise ValueError(
                f"{self.name}: across_buckets is True; False is needed for the causal form, since "
                "which tokens lie next to a bucket depends on the future."
            )
        self.count_duplicates = flag(self.name, "count_duplicates", count_duplicates)
        self.seed = random_seed(self.name, "seed", seed)
        self.factors = _even_factors(num_buckets, at_most=2 * chunk_size)
        self.register_buffer("rotations", self._draw().to(torch.get_default_dtype()))

    @property
    def num_buckets(self) -> int:
        """Buckets of a round; a little more than asked for if they are pairs."""
        return math.prod(self.factors)

    def _draw(self) -> Tensor:
        """(rounds, D, sum of factors / 2), independent of torch's global generator."""
        generator = torch.Generator("cpu").manual_seed(self.seed)
        shape = (self.num_rounds, self.geometry.head_dim, sum(self.factors) // 2)
        return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E); k is not read."""
        # A row of zeros for empty slots; queries, keys and values are gathered together.
        scaled = q * (1 / math.sqrt(q.shape[-1]))
        tokens = functional.pad(torch.cat((scaled, direction(q)[0], v), dim=-1), (0, 0, 0, 1))
        met: _Gathered | None = None
        earlier: list[_Layout] = []
        for rotation in self.rotations:
            layout = self._lay_out(self._hash(q.detach(), rotation))
            this = self._attend(tokens, layout, earlier)
            met = this if met is None else _merged(met, this)
            if not self.count_duplicates:
                earlier.append(layout)
        assert met is not None
        alone = met.total == 0
        return torch.where(alone, v, met.values / met.total.masked_fill(alone, 1.0))

    def _hash(self, x: Tensor, rotation: Tensor) -> Tensor:
        """The bucket of each token: (B, H, N, D), (D, sum of factors / 2) -> (B, H, N)."""
        turned = x.double() @ rotation.double()
        bucket = torch.zeros(x.shape[:-1], dtype=torch.long, device=x.device)
        for part, factor in zip(
            turned.split([factor // 2 for factor in self.factors], dim=-1),
            self.factors,
            strict=True,
        ):
            # argmax [x; -x], without writing both.
            highest, lowest = part.max(dim=-1), part.min(dim=-1)
            index = torch.where(
                highest.values >= -lowest.values, highest.indices, lowest.indices + factor // 2
            )
            bucket = bucket * factor + index
        return bucket

    def _lay_out(self, bucket: Tensor) -> _Layout:
        """Sort tokens by bucket and position, and give each a slot."""
        length = bucket.shape[-1]
        size = min(self.chunk_size, length)
        order = bucket.argsort(dim=-1, stable=True)
        num_chunks = self._num_chunks(length, size)
        place = torch.arange(length, device=bucket.device).expand_as(bucket)
        if self.geometry.causal:
            place = _slots_within_buckets(bucket.gather(-1, order), self.num_buckets, size)
        slots = torch.full((*bucket.shape[:-1], num_chunks * size), length, device=bucket.device)
        token = slots.scatter(-1, place, order)
        slot = torch.zeros_like(bucket).scatter(-1, order, place)
        with_empty = functional.pad(bucket, (0, 1), value=-1)
        # Codes of two buckets are never next to each other.
        code = slot // size if self.across_buckets else bucket * (num_chunks + 2) + slot // size
        return _Layout(
            token=token,
            bucket=with_empty.gather(-1, token).int(),
            slot=slot,
            code=functional.pad(code, (0, 1), value=-2).int(),
            size=size,
        )

    def _num_chunks(self, length: int, size: int) -> int:
        """As many as can be needed: causal, each bucket that has a token ends in a part of one."""
        if not self.geometry.causal:
            return -(-length // size)
        return (length + min(self.num_buckets, length) * (size - 1)) // size

    def _attend(self, tokens: Tensor, layout: _Layout, earlier: list[_Layout]) -> _Gathered:
        """One round: each chunk of queries meets its own chunk of keys and the one before."""
        dim = self.geometry.head_dim
        sizes = [dim, dim, tokens.shape[-1] - 2 * dim]
        queries, keys, values = _in_chunks(_gather(tokens, layout.token), layout.size).split(
            sizes, dim=-1
        )  # (B, H, chunks, size, D)
        scores = queries @ _with_previous(keys).transpose(-2, -1)
        scores = scores.masked_fill(~self._seen(layout, earlier), -torch.inf)
        peak = scores.detach().amax(dim=-1, keepdim=True)
        peak = peak.masked_fill(peak == -torch.inf, torch.finfo(peak.dtype).min)
        weights = (scores - peak).exp()
        met = torch.cat(
            (weights @ _with_previous(values), weights.sum(dim=-1, keepdim=True), peak), dim=-1
        )
        by_token = _gather(met.flatten(2, 3), layout.slot)
        values, total, peak = by_token.split((sizes[2], 1, 1), dim=-1)
        return _Gathered(values, total, peak.detach())

    def _seen(self, layout: _Layout, earlier: list[_Layout]) -> Tensor:
        """(B, H, chunks, size, 2 size), True for the tokens that a query attends to."""
        query, key = _pairs(layout.token.int(), layout.size, empty=-1)
        own, other = _pairs(layout.bucket, layout.size, empty=-2)
        is_another = key < query if self.geometry.causal else key != query
        seen = is_another & ((other >= 0) if self.across_buckets else (own == other))
        for before in earlier:
            own, other = _pairs(before.code.gather(-1, layout.token), layout.size, empty=-2)
            seen = seen & ((own - other) >> 1 != 0)  # not a difference of 0 or 1
        return seen

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x N weights, from which tokens meet in which round, one sorted list at a time."""
        length, causal = q.shape[-2], self.geometry.causal
        size = min(self.chunk_size, length)
        times = torch.zeros(*q.shape[:-1], length, dtype=q.dtype, device=q.device)
        token = torch.arange(length, device=q.device)
        is_another = token < token[:, None] if causal else token != token[:, None]
        for b, h, r in itertools.product(*(range(n) for n in q.shape[:2]), range(self.num_rounds)):
            bucket = self._reference_buckets(q[b, h], r)
            alike = bucket == bucket[:, None]
            # How many come before a token in the order; causal, in its own part of the order.
            earlier = alike & (token < token[:, None])
            rank = (earlier if causal else earlier | (bucket < bucket[:, None])).sum(dim=-1)
            distance = rank[:, None] // size - rank // size
            near = (distance == 0) | (distance == 1)
            times[b, h] += near & is_another & (alike | self.across_buckets)
        if not self.count_duplicates:
            times = times.clamp(max=1)
        lengths = q.pow(2).sum(dim=-1, keepdim=True).sqrt()
        scores = q @ (q / lengths).transpose(-2, -1) / q.shape[-1] ** 0.5
        weights = (scores - scores.detach().amax(dim=-1, keepdim=True)).exp() * times
        total = weights.sum(dim=-1, keepdim=True)
        mixed = weights @ v / total.masked_fill(total == 0, 1)
        return torch.where(total == 0, v, mixed)

    def _reference_buckets(self, x: Tensor, r: int) -> Tensor:
        """(N, D) -> (N,): the index of the largest of x R and -x R, factor by factor."""
        bucket = torch.zeros(len(x), dtype=torch.long, device=x.device)
        start = 0
        for factor in self.factors:
            rotation = self.rotations[r, :, start : start + factor // 2].to(x.dtype)
            turned = torch.einsum("nd,df->nf", x, rotation)
            bucket = bucket * factor + torch.cat((turned, -turned), dim=-1).argmax(dim=-1)
            start += factor // 2
        return bucket

    def flops(self, shape: CallShape) -> int:
        """Hashes, and the pairs that meet if buckets are equally full, each once per round.

        Which pairs do depends on the data; what a token has in common with more than one round is
        counted for each.
        """
        per_query = shape.query_len / self.num_buckets
        if self.across_buckets:
            per_query = min(2 * self.chunk_size, shape.query_len)
        if shape.causal:
            per_query /= 2
        pairs = int(self.num_rounds * shape.num_tokens * per_query)
        return self._hash_flops(shape) + 2 * pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, for all pairs of two neighbouring chunks, empty slots included."""
        size = min(self.chunk_size, shape.query_len)
        slots = self._num_chunks(shape.query_len, size) * size
        pairs = self.num_rounds * shape.batch_size * shape.num_heads * slots * 2 * size
        return self._hash_flops(shape) + 2 * pairs * (shape.head_dim + shape.value_dim)

    def _hash_flops(self, shape: CallShape) -> int:
        columns = sum(self.factors) // 2
        return 2 * self.num_rounds * shape.num_tokens * shape.head_dim * columns


def _even_factors(num_buckets: int, *, at_most: int) -> tuple[int, ...]:
    """The number itself, or two even numbers of about its root whose product is no less."""
    if num_buckets <= at_most:
        return (num_buckets,)
    first = 2 * math.ceil(math.sqrt(num_buckets) / 2)
    return (first, 2 * math.ceil(num_buckets / first / 2))


def _slots_within_buckets(buckets: Tensor, num_buckets: int, size: int) -> Tensor:
    """A slot for each token of a sorted list, such that each bucket begins a chunk of its own."""
    counts = torch.zeros(*buckets.shape[:-1], num_buckets, dtype=torch.long, device=buckets.device)
    counts = counts.scatter_add(-1, buckets, torch.ones_like(buckets))
    chunks = (counts + size - 1) // size
    # Slots that empty places of earlier buckets take.
    shift = (chunks.cumsum(dim=-1) - chunks) * size - (counts.cumsum(dim=-1) - counts)
    return torch.arange(buckets.shape[-1], device=buckets.device) + shift.gather(-1, buckets)


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Rows of each head: (B, H, S, F), (B, H, n) -> (B, H, n, F)."""
    batch_size, num_heads, num_rows = x.shape[:3]
    head = torch.arange(batch_size * num_heads, device=x.device).view(batch_size, num_heads, 1)
    rows = x.flatten(0, 2).index_select(0, (index + head * num_rows).flatten())
    return rows.view(*index.shape, x.shape[-1])


def _in_chunks(x: Tensor, size: int) -> Tensor:
    return torch.unflatten(x, 2, (-1, size))


def _with_previous(chunks: Tensor, empty: float = 0.0) -> Tensor:
    """Each chunk behind the one before it: (B, H, chunks, size, F) -> (B, H, chunks, 2 size, F)."""
    previous = functional.pad(chunks[:, :, :-1], (0, 0, 0, 0, 1, 0), value=empty)
    return torch.cat((previous, chunks), dim=3)


def _pairs(x: Tensor, size: int, *, empty: int) -> tuple[Tensor, Tensor]:
    """Column of a chunk's queries and row of its keys: (B, H, slots) -> two tensors."""
    chunks = _in_chunks(x, size).unsqueeze(-1)
    return chunks, _with_previous(chunks, empty).transpose(-2, -1)


def _merged(one: _Gathered, other: _Gathered) -> _Gathered:
    """Merge of two running sums, relative to the larger peak."""
    peak = torch.maximum(one.peak, other.peak)
    first, second = (one.peak - peak).exp(), (other.peak - peak).exp()
    return _Gathered(
        values=one.values * first + other.values * second,
        total=one.total * first + other.total * second,
        peak=peak,
    )
