"""An HTTP client whose replies have an end, and which takes a key to no other server than the one that it is for.

A body, as it comes and as it unpacks, holds so many bytes and no more; redirects to elsewhere are refused.
"""

import zlib
from typing import Any

import openai

from diverseevol.errors import InputError
from diverseevol.storage.reading import size

LARGEST_BODY = 1 << 24  # bytes; the longest reply of a judge has a thousandth of them


class BodyError(Exception):
    """A reply's body is too large, or packed in a way that was not asked for."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """The client's own transport, except that it reads each body itself, up to `LARGEST_BODY`."""

    def __init__(self, **options: Any) -> None:
        hooks = {"response": [_stay]}  # which sees each response before a redirect is followed
        super().__init__(headers={"accept-encoding": "gzip"}, max_redirects=3, event_hooks=hooks, **options)

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request.

        Raises:
            BodyError: the reply's body is too large or cannot be unpacked.
        """
        response = await super().send(request, stream=True, **options)
        try:
            body = await _body(response)
        finally:
            await response.aclose()
        kept = [
            (name, value)
            for name, value in response.headers.multi_items()
            # The type names an encoding, some of which Python knows as none of texts: all are read as UTF-8.
            if name not in ("content-encoding", "content-length", "transfer-encoding", "content-type")
        ]
        return type(response)(
            response.status_code,
            headers=kept,
            content=body,
            request=response.request,
            extensions=response.extensions,
            history=response.history,
        )


async def _body(response: Any) -> bytes:
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", "x-gzip", "deflate"):
        raise BodyError(f"the reply is packed as {packing[:40]}, which was not asked for")
    unpacker = None if packing == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = bytearray()
    async for part in response.aiter_raw():
        try:
            # One byte more than fits tells a body that is too large from one that just fits.
            body += unpacker.decompress(part, LARGEST_BODY + 1 - len(body)) if unpacker else part
        except zlib.error as error:
            raise BodyError(f"the reply cannot be unpacked ({error})") from None
        if len(body) > LARGEST_BODY:
            raise BodyError(f"the reply is longer than {size(LARGEST_BODY)}, the longest that is read")
    if unpacker and not unpacker.eof:
        raise BodyError("the reply is cut off before its packing ends")
    return bytes(body)


async def _stay(response: Any) -> None:
    """Refuse a redirect that would take the key to another server, or the prompt out of the request."""
    if not response.has_redirect_location:
        return
    asked = response.request.url
    try:
        target = asked.join(response.headers["location"])
        there = f"{target.scheme}://{target.netloc.decode('ascii', 'replace').rpartition('@')[2]}{target.path}"
    except Exception:  # whatever it is, it is no address
        raise InputError(f"{asked}: sends on to what is no address (HTTP {response.status_code})") from None
    if (asked.scheme, asked.host, asked.port) == (target.scheme, target.host, target.port):
        if response.status_code in (307, 308):
            return
        raise InputError(
            f"{asked}: sends on to {there} (HTTP {response.status_code}), which drops the prompt; correct "
            f"judge.base_url"
        )
    raise InputError(
        f"{asked}: sends on to another server, {there} (HTTP {response.status_code}), which is not given the key; if "
        f"it is the right one, give it as judge.base_url"
    )
