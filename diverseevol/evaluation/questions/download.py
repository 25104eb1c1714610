"""Public files: downloaded at first use, checked, and kept."""

import hashlib
import os
import re
import time
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from diverseevol.errors import InputError
from diverseevol.storage.cache import content_digest, warn_of_damage
from diverseevol.storage.files import atomic_write, locked
from diverseevol.storage.reading import size

TIMEOUT_SECONDS = 30  # without a byte
LONGEST_SECONDS = 600  # for the complete file
LARGEST_DOWNLOAD = 1 << 28  # bytes
CHUNK = 1 << 16


def fetch(url: str | None, sha256: str | None, target: Path, option: str) -> Path:
    """Download a file unless it is there already; it is kept only if its sha256 is the expected one.

    Args:
        url: where to get it.
        sha256: of its content.
        target: where to keep it.
        option: what the user sets to give a local file instead; named in every error.

    Raises:
        InputError: the file cannot be downloaded, is not the expected one, or does not end.
    """
    if url is None or sha256 is None:
        raise InputError(f"{option} is not set: give {option}=FILE, or both a url and the sha256 of the file there")
    if not re.match("https?://", url, re.IGNORECASE):
        raise InputError(
            f"{url}: cannot be fetched (it is not an http or https URL); give {option}=FILE for a local file"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f"{target.name}.lock")):  # the jobs of a sweep may need the same file at the same time
        if os.path.lexists(target):
            if target.is_file() and content_digest(target) == sha256:
                return target
            warn_of_damage(target, "its sha256 is not the expected one")
        try:
            with urlopen(url, timeout=TIMEOUT_SECONDS) as reply:
                content = _content(reply, url, option)
        except InputError:
            raise
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()  # it is also the response, and holds the connection
            raise InputError(
                f"{url}: cannot be fetched ({error}); download it elsewhere and give {option}=FILE"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != sha256:
            raise InputError(
                f"{url}: expected a file of sha256 {sha256}, got {digest}, which is not kept; try again, or give a "
                f"file that you trust by {option}=FILE"
            )
        with atomic_write(target, "wb") as file:
            file.write(content)
    return target


def _content(reply: HTTPResponse, url: str, option: str) -> bytes:
    """All of a response, which must end."""
    content, began = bytearray(), time.monotonic()
    while part := reply.read1(CHUNK):
        content += part
        if len(content) > LARGEST_DOWNLOAD:
            raise InputError(
                f"{url}: is longer than {size(LARGEST_DOWNLOAD)}, the most that is downloaded; give {option}=FILE"
            )
        if time.monotonic() - began > LONGEST_SECONDS:
            raise InputError(
                f"{url}: has not come within {LONGEST_SECONDS} seconds; download it elsewhere and give {option}=FILE"
            )
    promised = reply.headers.get("content-length", "")
    if promised.isdigit() and int(promised) != len(content):
        raise IncompleteRead(bytes(content), int(promised) - len(content))
    return bytes(content)
