"""Farthest-first traversal by a running minimum on a GPU: every row compared with every centre, each time.

A GPU reads its own memory some hundred times faster than the processor reads the host's. Even so, on an H100 it was
quicker than the lazy traversal on its host only for rows without structure (0.24 s against 0.27 s, 15,015 × 4,096,
transfer included), and 3 to 13 times slower on clustered ones: it is an option (`sampler.device=cuda`) and not the
default.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.utils.dlpack import from_dlpack  # from_numpy warns of read-only memory maps

from diverseevol.errors import InputError
from diverseevol.geometry.row_blocks import LONGEST, check_finite, mean_row

BLOCK_ELEMENTS = 2**22  # of rows whose differences are held in float64 at once: 32 MiB


def running_minimum(
    X: Float[np.ndarray, "rows dim"],
    taken: Bool[np.ndarray, " rows"],
    n: int,
    centres: Int[np.ndarray, " centres"] | None,
    device: torch.device,
    among: Int[np.ndarray, " some"] | None = None,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The picks of `farthest_first`, by comparing every row with every centre on a device.

    Costs rows × (centres + n) × dim float64 operations and the memory of X there, in its own precision. Both ways
    compare float64 sums of squared differences: where two different rows are equally far but for the last bits of
    such a sum, they may part.

    Raises:
        InputError: a row holds NaN or inf, or the rows do not fit on the device.
    """
    if device.type == "cuda" and X.nbytes > (free_bytes := torch.cuda.mem_get_info(device)[0]):
        raise InputError(
            f"sampler.device is {device}, which has {free_bytes >> 20:,} MiB free where the embeddings take "
            f"{X.nbytes >> 20:,}; give sampler.device=cpu"
        )
    step = max(1, BLOCK_ELEMENTS // X.shape[1])
    blocks = [from_dlpack(np.ascontiguousarray(X[i : i + step])).to(device) for i in range(0, len(X), step)]
    if not all((torch.linalg.vector_norm(block.float(), dim=1) < LONGEST).all() for block in blocks):
        check_finite(X)
    free = torch.tensor(~taken, device=device)

    def squared(point: torch.Tensor) -> torch.Tensor:
        return torch.cat([(block - point).square_().sum(dim=1) for block in blocks])  # in float64, as the point is

    def place(row: int) -> torch.Tensor:
        point: torch.Tensor = blocks[row // step][row % step]
        return point.double()

    least: torch.Tensor | None = None
    for centre in np.flatnonzero(taken) if centres is None else centres:
        distance = squared(place(int(centre)))
        least = distance if least is None else torch.minimum(least, distance)
    picks, found = [], []
    for _ in range(n):
        # Without a centre the first pick is the row nearest the mean. `argmax` may return any of several.
        value = -squared(torch.tensor(mean_row(X, among), device=device)) if least is None else least
        value = value.where(free, -torch.inf)
        row = int((value == value.max()).nonzero()[0])
        picks.append(row)
        found.append(abs(float(value[row])))
        free[row] = False
        distance = squared(place(row))
        least = distance if least is None else torch.minimum(least, distance)
    return np.array(picks, dtype=np.int64), np.sqrt(np.array(found))
