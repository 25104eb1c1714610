"""Arrays on disk that processes fill together, and that appear under their names only once they are whole."""

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
    folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], str]], place: Processes
) -> Iterator[dict[str, np.ndarray]]:
    """Arrays to be filled inside the block, by all processes, each its own rows; zeros where nobody does.

    Args:
        folder: gets `<name>.npy` of each when the block ends well.
        shapes: name -> shape and dtype.
        place: this process among its peers; the first one makes the files.

    Raises:
        InputError: there is no room.
    """
    partial: dict[str, Path] = {}
    if place.first:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, (shape, dtype) in shapes.items():
            partial[name] = temporary(folder / f"{name}.npy")
            _allocate(partial[name], shape, dtype)
    partial = place.share(partial)
    arrays = {name: np.load(partial[name], mmap_mode="r+") for name in shapes}
    yield arrays
    for array in arrays.values():
        array.flush()
    place.barrier()
    if place.first:
        for name in arrays:
            partial[name].replace(folder / f"{name}.npy")
        with writing(folder):
            seal(folder, [f"{name}.npy" for name in arrays])
    place.barrier()


def read_probe(
    folder: Path, *, embedding: bool, statistics: Sequence[str] = ()
) -> tuple[Float[np.ndarray, "rows dim"] | None, Mapping[str, Float[np.ndarray, " rows"]]]:
    """What a pass over the rows left in a folder, memory-mapped."""
    scores = {name: load_array(folder / f"{name}.npy", remedy=REMEDY) for name in statistics}
    return (load_array(folder / "embedding.npy", remedy=REMEDY) if embedding else None), scores


def cached_by_all(cache: Path, build: Callable[[Path], None], place: Processes) -> None:
    """A folder of arrays that all processes fill together, once: whoever asks later finds it.

    Args:
        cache: where it is kept.
        build: puts the arrays into the folder it is given; called by every process with the same one.
        place: this process among its peers.
    """
    asked = False

    def together(folder: Path) -> None:
        nonlocal asked
        asked = bool(place.share(folder))
        build(folder)
        place.barrier()  # every process has read it before the first one gives it its name

    if place.first:  # it holds the cache's lock: what a killed job left is thrown away, and other jobs wait
        cached_folder(cache, together)
        if not asked:
            place.share(None)
    elif folder := place.share(None):
        build(folder)
        place.barrier()
    place.barrier()


def _allocate(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Make an array on disk whose blocks exist: a full disk is an error now, not a crash when a page is written."""
    with writing(path, path):
        path.touch(exist_ok=False)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with path.open("r+b") as file:
            if array.nbytes:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
