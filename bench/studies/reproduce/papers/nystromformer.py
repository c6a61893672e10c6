"""Long Range Arena's ListOps with a small model."""

from bench.studies.reproduce.described import Paper
from bench.studies.reproduce.papers.lra import LISTOPS_SMALL, constant_answer, row

_TABLE = "Long Range Arena table"

PAPER = Paper(
    title="Xiong et al., 2021, Nyströmformer, arXiv:2102.03902",
    entries=(
        *(
            cell
            for attention, title, value, cost_factor, hyperparameters in (
                ("softmax", "standard attention", 37.10, 1.0, {}),
                ("reformer", "Reformer", 19.05, 0.3, {}),
                ("linformer", "Linformer", 37.25, 0.2, {}),
                ("performer", "Performer-256", 18.80, 0.2, {"num_features": 256}),
                ("nystromformer", "Nyströmformer", 37.15, 0.25, {}),
            )
            for cell in row(
                f"nystromformer-{attention}",
                title,
                {"listops": LISTOPS_SMALL},
                [value],
                where=_TABLE,
                attention=attention,
                hyperparameters=hyperparameters,
                cost_factor=cost_factor,
            )
        ),
        *(
            constant_answer(
                id=f"nystromformer-listops-{name}-constant",
                where=_TABLE,
                what=f"{title}, ListOps, beside a constant answer",
                published=published,
            )
            for name, title, published in (
                ("reformer", "Reformer", 0.1905),
                ("performer", "Performer-256", 0.1880),
            )
        ),
    ),
)
