"""Farthest-first traversal where it is fastest: lazily on the processor, or by a running minimum on a GPU.

A running minimum reads all rows at every pick, which a GPU's memory does some hundred times faster than the host's:
52,002 × 4,096 float32 are 0.9 GB, a fraction of a millisecond a pick. The lazy traversal reads them once, but they have
to be on the device's side of the bus for that, too; with more rows its one pass wins again. (Where the border
lies is arithmetic from bandwidths: it has not been measured on a GPU.)
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from diverseevol.measures import check_finite, mean_row
from diverseevol.samplers.farthest_first import farthest_first

MOST_ROWS = 500_000  # on a device; beyond, a pass for each pick costs more than one lazy pass
BLOCK_ELEMENTS = 2**24  # of rows that are widened to float64 at once: 128 MiB


def traverse(
    X: Float[np.ndarray, "rows dim"],
    taken: Bool[np.ndarray, " rows"],
    n: int,
    centres: Int[np.ndarray, " centres"] | None = None,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Pick n rows, each the one farthest from all centres and picks before; arguments and result of `farthest_first`.

    Both ways compare float64 sums of squared differences, so they differ where two rows are equally far but for the
    last bits of such a sum, and nowhere else.
    """
    if torch.cuda.is_available() and len(X) <= MOST_ROWS and X.nbytes < torch.cuda.mem_get_info()[0] // 2:
        return running_minimum(X, taken, n, centres, torch.device("cuda"))
    return farthest_first(X, taken, n, centres)


def running_minimum(
    X: Float[np.ndarray, "rows dim"],
    taken: Bool[np.ndarray, " rows"],
    n: int,
    centres: Int[np.ndarray, " centres"] | None,
    device: torch.device,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The picks of `farthest_first`, by comparing every row with every centre on a device.

    Costs rows × (centres + n) × dim float64 operations and the memory of X there, in its own precision.

    Raises:
        InputError: a row holds NaN or inf.
    """
    check_finite(X)
    step = max(1, BLOCK_ELEMENTS // X.shape[1])
    blocks = [torch.tensor(np.asarray(X[start : start + step]), device=device) for start in range(0, len(X), step)]
    free = torch.tensor(~taken, device=device)

    def squared(point: torch.Tensor) -> torch.Tensor:
        return torch.cat([(block.double() - point).square_().sum(dim=1) for block in blocks])

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
        value = -squared(torch.tensor(mean_row(X), device=device)) if least is None else least
        value = value.where(free, -torch.inf)
        row = int((value == value.max()).nonzero()[0])
        picks.append(row)
        found.append(abs(float(value[row])))
        free[row] = False
        distance = squared(place(row))
        least = distance if least is None else torch.minimum(least, distance)
    return np.array(picks, dtype=np.int64), np.sqrt(np.array(found))
