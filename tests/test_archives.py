"""Archives that somebody else has made, also to do harm: each is refused in a sentence, in little memory."""

import gzip
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from diverseevol.errors import InputError
from diverseevol.evaluation.scores import archives
from diverseevol.evaluation.scores.archives import read_members
from diverseevol.storage import packed

MB = 1 << 20


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What real limits do in gigabytes, these do in megabytes."""
    for name, value in {
        "MOST_MEMBERS": 20, "LARGEST_MEMBER": MB, "LARGEST_HEADER": 1 << 16, "LARGEST_ARCHIVE": 30 * MB,
    }.items():  # fmt: skip
        monkeypatch.setattr(archives, name, value)
    monkeypatch.setattr(packed, "FREE", MB)


def member(name: str = "a", content: bytes = b"hello", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in changes.items():
        setattr(info, field, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def header(**changes: object) -> bytes:
    """One header alone, of a size that nothing follows."""
    return member(**changes)[0].tobuf(tarfile.GNU_FORMAT)  # type: ignore[arg-type]


def link(kind: bytes, to: str) -> bytes:
    return tar(member("a", b"", type=kind, linkname=to))


SEVERAL = tar(member("b", b"1"), member("a", b"2"), member("/a", b"3"))
REFUSED: dict[str, tuple[bytes, str]] = {
    "more members than are read": (tar(*(member(f"{i}") for i in range(21))), "more than 20 members"),
    "a member that is too large": (tar(member("a", bytes(MB + 1))), "longer than 1 MiB"),
    "zeros that are packed": (gzip.compress(tar(member("z", bytes(29 * MB)))), "200 times its size"),
    "zeros that are packed better": (lzma.compress(tar(member("z", bytes(29 * MB)))), "200 times its size"),
    "packed headers": (gzip.compress(b"".join(header(name=f"d{i}", content=b"") for i in range(20000))), "more than"),
    "a link to a file": (link(tarfile.SYMTYPE, "/etc/passwd"), "is a link or a device"),
    "a hard link": (link(tarfile.LNKTYPE, "b"), "is a link or a device"),
    "a hard link to itself": (link(tarfile.LNKTYPE, "a"), "is a link or a device"),
    "a pipe": (link(tarfile.FIFOTYPE, ""), "is a link or a device"),
    "a device": (link(tarfile.CHRTYPE, ""), "is a link or a device"),
    "a way out": (tar(member("../../a")), "leads out of the archive"),
    "a way out and in": (tar(member("/x/../a")), "leads out of the archive"),
    "a long header": (tar(member("a", pax_headers={"comment": "x" * (1 << 17)})), "has a header of 128 KiB"),
    "a long name": (tar(member("a" * (1 << 17)), kind=tarfile.GNU_FORMAT), "has a header of 128 KiB"),
    "a long header that is not there": (header(name="x", type=tarfile.XHDTYPE, size=2**40), "has a header of 1.02e"),
    "a negative size": (header(name="a", size=-512), "has the size -512"),
    "a size beyond the end": (header(name="a", size=5000), "cannot be read to its end"),
    "nothing": (b"", "cannot be read to its end"),
    "a text": (b"hello " * 1000, "cannot be read to its end"),
    "a packed text": (gzip.compress(b"hello " * 1000), "cannot be read to its end"),
    "a cut packing": (gzip.compress(SEVERAL)[:-20], "cannot be read to its end"),
    "a damaged packing": (gzip.compress(SEVERAL)[:30] + b"\0" * 50, "cannot be read to its end"),
}


def read(path: Path, wanted: Callable[[str], bool] = lambda name: name.endswith("a")) -> list[tuple[str, bytes]]:
    return list(read_members(path, wanted))


@pytest.mark.parametrize("case", REFUSED)
def test_an_archive_that_does_harm_is_refused_in_a_sentence_and_in_little_memory(case, tmp_path):
    content, complaint = REFUSED[case]
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"x\.tar: .*{complaint}") as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 16 * MB  # half of what it unpacks to; the packing itself takes 8
    finally:
        tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_what_is_wanted_of_an_archive_is_read_and_nothing_else(pack, tmp_path):
    (tmp_path / "x.tar").write_bytes(pack(SEVERAL))
    assert read(tmp_path / "x.tar") == [("a", b"2"), ("a", b"3")]


def test_an_archive_of_much_that_is_not_wanted_is_read_to_its_end(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(member("b", bytes(5 * MB)), member("c/../d"), member("a")))
    assert read(tmp_path / "x.tar") == [("a", b"hello")]
