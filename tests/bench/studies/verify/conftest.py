import pytest
from torch import Tensor

from attentions import attention_class
from bench.studies.golden.build import is_published
from bench.studies.verify.outputs import verify
from tests.bench.studies.verify.goldens import PUBLIC, config, copy_case


@pytest.fixture(scope="package")
def proofs():
    return list(verify(config(PUBLIC)))


@pytest.fixture(scope="package")
def public(proofs):
    """Proofs of ours, one per golden."""
    return [proof for proof in proofs if is_own(proof)]


def is_own(proof):
    return not is_published(proof.mechanism) and not str(proof.mechanism).endswith("_ort")


@pytest.fixture(scope="package")
def published(proofs):
    """Proofs of the authors' operators."""
    return [proof for proof in proofs if is_published(proof.mechanism)]


@pytest.fixture
def small(tmp_path):
    """Three cases of three mechanisms, without index and checksums."""
    for name in (
        "linear_elu/full_b2h2n49d16",
        "performer/softmax_b2h2n49d16m24",
        "softmax/causal_b2h2n49d16",
    ):
        copy_case(tmp_path / "golden", name)
    return tmp_path / "golden"


@pytest.fixture
def wrong_linear(monkeypatch):
    """A linear attention that is off by a thousandth."""
    cls = attention_class("linear")
    right = cls.forward

    def forward(self, q, k, v, **masks):
        out: Tensor = right(self, q, k, v, **masks) * 1.001
        return out

    monkeypatch.setattr(cls, "forward", forward)
