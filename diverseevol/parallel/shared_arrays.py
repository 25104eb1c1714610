"""Arrays on disk that processes fill together, and that get their names only once they are complete."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float

from diverseevol.parallel.processes import Processes
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.files import temporary, writing
from diverseevol.storage.reading import load_array
from diverseevol.storage.sealed import seal

REMEDY = "remove it, and the same command makes it again"


@contextmanager
def filled(
    folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], str]], processes: Processes
) -> Iterator[dict[str, np.ndarray]]:
    """Arrays that all processes fill inside the block, each its own rows; rows that no process fills are zero.

    Args:
        folder: gets a `<name>.npy` for each array when the block ends without an error.
        shapes: name -> shape and dtype.
        processes: this process among its peers; rank 0 makes the files.

    Raises:
        InputError: there is no room.
    """
    partial: dict[str, Path] = {}
    if processes.first:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, (shape, dtype) in shapes.items():
            partial[name] = temporary(folder / f"{name}.npy")
            _allocate(partial[name], shape, dtype)
    partial = processes.share(partial)
    arrays = {name: np.load(partial[name], mmap_mode="r+") for name in shapes}
    yield arrays
    for array in arrays.values():
        array.flush()
    processes.barrier()
    if processes.first:
        for name in arrays:
            partial[name].replace(folder / f"{name}.npy")
        with writing(folder):
            seal(folder, [f"{name}.npy" for name in arrays])
    processes.barrier()


def read_probe(
    folder: Path, *, embedding: bool, statistics: Sequence[str] = ()
) -> tuple[Float[np.ndarray, "rows dim"] | None, Mapping[str, Float[np.ndarray, " rows"]]]:
    """The embedding (or None) and the statistics that a pass over the rows wrote into a folder, memory-mapped."""
    scores = {name: load_array(folder / f"{name}.npy", remedy=REMEDY) for name in statistics}
    return (load_array(folder / "embedding.npy", remedy=REMEDY) if embedding else None), scores


def cached_by_all(cache: Path, build: Callable[[Path], None], processes: Processes) -> None:
    """A folder of arrays that all processes fill together, once; later calls find it in the cache.

    Args:
        cache: where the folder is kept.
        build: puts the arrays into the folder it gets; every process calls it with the same one.
        processes: this process among its peers.
    """
    # Only rank 0 asks the cache: it holds the lock, removes what a killed job left, and so alone knows whether there is
    # something to build. The others wait in one `share`, which tells them the temporary folder to build in, or None
    # where the cache has the folder already. Rank 0 therefore shares exactly once: in `announce_and_build`, or, when
    # the cache never called that, afterwards. Nobody may still read the temporary folder when rank 0 renames it (the
    # barrier after `build`), and nobody may read the final folder before that (the barrier at the end).
    announced = False

    def announce_and_build(folder: Path) -> None:
        nonlocal announced
        announced = bool(processes.share(folder))
        build(folder)
        processes.barrier()

    if processes.first:
        cached_folder(cache, announce_and_build)
        if not announced:
            processes.share(None)
    elif folder := processes.share(None):
        build(folder)
        processes.barrier()
    processes.barrier()


def _allocate(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Make an array on disk whose blocks exist: a full disk is an error now, not a crash when a page is written."""
    with writing(path, path):
        path.touch(exist_ok=False)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with path.open("r+b") as file:
            if array.nbytes:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
