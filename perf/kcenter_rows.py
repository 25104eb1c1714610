"""The rows that K-Center is measured on: of the shape of embeddings, or without any."""

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Case:
    """Rows of one kind and size, some taken, and how many to pick."""

    kind: str
    rows: int
    dim: int
    taken: int
    picks: int = 100
    full_matrix: bool = False  # rows² floats: not for every size
    peers: bool = False
    turns: int = 5
    goals: dict[str, float] = field(default_factory=dict)  # how many times as long as ours a candidate should take

    @property
    def name(self) -> str:
        return f"{self.kind} {self.rows:,} × {self.dim:,}, {self.taken:,} taken, {self.picks:,} picks"


CASES = {
    "smoke": [Case("clustered", 300, 16, 10, 10, full_matrix=True, turns=1)],
    "small": [
        Case("clustered", 5_000, 1_024, 100, full_matrix=True, peers=True),
        Case("clustered", 5_000, 1_024, 1_100),
        Case("iid", 5_000, 1_024, 1),
        Case("iid", 5_000, 1_024, 100),
        Case("iid", 5_000, 1_024, 1_100),
    ],
    "full": [
        Case(
            "clustered",
            15_015,
            4_096,
            100,
            full_matrix=True,
            peers=True,
            goals={"rows × rows": 60, "running minimum": 10},
        ),
        Case("clustered", 15_015, 4_096, 1_100),
        Case("clustered", 52_002, 4_096, 100),
        Case("clustered", 52_002, 4_096, 1_100, goals={"running minimum": 8}),
        Case("iid", 15_015, 4_096, 1, goals={"running minimum": 0.8}),
        Case("iid", 15_015, 4_096, 100, goals={"running minimum": 0.8}),
        Case("iid", 15_015, 4_096, 1_100, goals={"running minimum": 0.8}),
        Case("clustered", 5_000, 1_024, 100, full_matrix=True, peers=True),
    ],
}


def clustered(out: np.ndarray, seed: int = 0) -> None:
    """Fill with what embeddings of instructions look like.

    200 clusters of power-law sizes in a power-law spectrum of 512 directions, spread by 1 / √length of a text,
    a common mean several times the spread, four massive columns, 0.3 % duplicates.
    """
    rows, dim = out.shape
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    rank = min(512, dim)
    directions = torch.randn(rank, dim, generator=generator) * torch.arange(1, rank + 1)[:, None] ** -0.5 / rank**0.5
    centres = torch.randn(200, rank, generator=generator)
    share = 1 / np.arange(1, 201)
    cluster = torch.from_numpy(rng.choice(200, rows, p=share / share.sum()))
    spread = torch.from_numpy(6 / np.sqrt(np.exp(rng.normal(4.3, 0.9, rows)).clip(4, 512))).float()
    mean = torch.nn.functional.normalize(torch.randn(dim, generator=generator), dim=0) * 60
    mean[[1, dim // 3, dim // 2, dim - 5]] += 25
    for start in range(0, rows, 4096):
        part = slice(start, min(start + 4096, rows))
        size = part.stop - start
        inside = centres[cluster[part]] + spread[part, None] * torch.randn(size, rank, generator=generator)
        noise = 0.4 / dim**0.5 * torch.randn(size, dim, generator=generator)
        out[part] = (inside @ directions + noise + mean).numpy()
    copies, originals = rng.choice(rows, (2, rows * 3 // 1000), replace=False)
    out[copies] = out[originals]


def rows_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a case, and which of them are taken."""
    X = np.empty((case.rows, case.dim), dtype=np.float32)
    if case.kind == "clustered":
        clustered(X)
    else:
        np.random.default_rng(0).standard_normal(out=X, dtype=np.float32)
    return X, scattered(case.rows, case.taken)


def scattered(rows: int, size: int) -> np.ndarray:
    """Which rows are taken: some at random."""
    taken = np.zeros(rows, dtype=bool)
    taken[np.random.default_rng(1).choice(rows, size, replace=False)] = True
    return taken
