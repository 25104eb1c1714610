"""Public files that are fetched at first use, checked, and kept."""

import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from diverseevol.errors import InputError
from diverseevol.files import atomic_write, locked

TIMEOUT_SECONDS = 30


def fetch(url: str | None, sha256: str | None, target: Path, option: str) -> Path:
    """Fetch a file unless it is there already; it is kept only when its sha256 is the expected one.

    Args:
        url: where it is to be had.
        sha256: of its content.
        target: where it is kept.
        option: what the user sets to give a local file instead; named in every error.

    Raises:
        InputError: the file cannot be had, or is another one than expected.
    """
    if url is None or sha256 is None:
        raise InputError(f"{option} is not set: give {option}=FILE, or both a url and the sha256 of the file there")
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f"{target.name}.lock")):  # the jobs of a sweep ask for the same file at the same time
        if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == sha256:
            return target
        try:
            with urlopen(url, timeout=TIMEOUT_SECONDS) as reply:
                content = reply.read()
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()  # it is also the reply, and holds the connection
            raise InputError(
                f"{url}: cannot be fetched ({error}); download it elsewhere and give {option}=FILE"
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise InputError(
                f"{url}: the sha256 of what came is {found} but {sha256} is expected, so it is not kept; "
                f"try again, or give a file that you trust by {option}=FILE"
            )
        with atomic_write(target, "wb") as file:
            file.write(content)
    return target
