"""Golden cases as tests of a mechanism: those that are about it, or about its published entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from ...registry import attention_names
from ..check import Broken, Record
from ..forms import Untestable
from .build import published_form, runtime_form
from .files import DamagedGolden, GoldenFolder
from .map import Form, form_of, mechanisms_of
from .proof import Proof, ProofStatus, prove

PACKAGED = Path(__file__).resolve().parents[1] / "golden"
ABSENT = (
    "a wheel brings no golden files: they are in the repository, in attentions/testing/golden; "
    "name a folder of them"
)


@dataclass(frozen=True)
class Goldens:
    """Golden files, and the device on which a mechanism is compared with them.

    Raises:
        ValueError: the folder is named and holds none.
    """

    folder: Path | None = None
    device: str = "cpu"

    @cached_property
    def cases(self) -> GoldenFolder | None:
        """The named folder, or that of this package; None if a wheel lacks it."""
        if self.folder is None and not PACKAGED.is_dir():
            return None
        return GoldenFolder(self.folder or PACKAGED)


def golden_runs(name: str, goldens: Goldens) -> Iterator[tuple[str, Callable[[Record], None]]]:
    """Name of each golden case about a mechanism, and the function that compares with it."""
    folder = goldens.cases
    if folder is None:
        yield "absent", _absent
        return
    for golden in folder.names:
        ours = mechanisms_of(golden.partition("/")[0]) & {*attention_names()}
        if name not in {form.mechanism for each in ours for form in _forms(Form(mechanism=each))}:
            continue
        try:
            forms = _forms(form_of(folder.header(golden)))
        except DamagedGolden as error:
            yield golden, partial(_damaged, str(error))
            continue
        for form in forms:
            if form.mechanism == name:
                yield golden, partial(_compare, folder, golden, form, goldens.device)


def unregistered(folder: GoldenFolder) -> Iterator[Proof]:
    """Proofs of golden cases about mechanisms that are not registered: none is covered."""
    for name in folder.names:
        if mechanisms_of(name.partition("/")[0]) & {*attention_names()}:
            continue
        try:
            golden = folder.read(folder.header(name))
            yield prove(golden, form_of(golden.header))
        except DamagedGolden as error:
            case = name.partition("/")[2]
            yield Proof(
                golden=name,
                mechanism=None,
                case=case,
                status=ProofStatus.FAILED,
                reason=str(error),
            )


def _forms(form: Form) -> list[Form]:
    """A form, and after it those of the authors' operators and of a runtime's, if any."""
    return [each for each in (form, published_form(form), runtime_form(form)) if each is not None]


def _compare(folder: GoldenFolder, name: str, form: Form, device: str, record: Record) -> None:
    try:
        golden = folder.read(folder.header(name))
    except DamagedGolden as error:
        raise Broken(str(error)) from error
    moved = {key: tensor.to(device) for key, tensor in golden.tensors.items()}
    proof = prove(replace(golden, tensors=moved), form)
    record("golden", asdict(proof))
    if proof.status is ProofStatus.FAILED:
        raise Broken(proof.reason or "")
    if proof.status is ProofStatus.NOT_COVERED:
        raise Untestable(proof.reason or "")


def _damaged(words: str, record: Record) -> None:
    raise Broken(words)


def _absent(record: Record) -> None:
    raise Untestable(ABSENT)
