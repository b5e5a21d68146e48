"""Unpacking: every kind of archive that hosts serve, and those that must be refused."""

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
from pathlib import Path

import pytest

from tfhub_cache.errors import ArchiveError, DownloadError, UnsafeArchiveError
from tfhub_cache.store.contract import Staging
from tfhub_cache.unpacking.archive import Limits, SizeExceeded
from tfhub_cache.unpacking.archive import unpack as unpack_within

MODEL = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": random.Random(1).randbytes(300_000),
    "assets/vocab.txt": b"a\nb\n" * 1000,
}
COMPRESSIONS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "none": lambda data: data,
}


LIMITS = Limits()


def unpack(stream, folder):
    return unpack_within(stream, folder, LIMITS)


class Folder(Staging):
    """A staging folder in a test's temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def make_folder(self, path: str) -> None:
        (self.root / path).mkdir(parents=True, exist_ok=True)

    def create_file(self, path: str, size: int, *, replace: bool):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        return open(self.root / path, "wb" if replace else "xb")

    def check_space(self, size: int) -> None:
        pass

    def clear(self) -> None:
        pass

    def tree(self) -> dict[str, bytes | None]:
        return {
            path.relative_to(self.root).as_posix(): None if path.is_dir() else path.read_bytes()
            for path in sorted(self.root.rglob("*"))
        }


class Stream:
    """Bytes that arrive in small pieces, and may break off."""

    def __init__(self, data: bytes, error: Exception | None = None) -> None:
        self._file = io.BytesIO(data)
        self._error = error
        self.closed = False

    def read(self, size: int, /) -> bytes:
        data = self._file.read(min(size, 100_000))
        if not data and self._error:
            raise self._error
        return data

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "staging")


def tar(*members: tarfile.TarInfo | tuple[str, bytes], **options) -> bytes:
    """A tar of members, given as they are or as a name and a content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for item in members:
            if isinstance(item, tarfile.TarInfo):
                archive.addfile(item)
            else:
                member = tarfile.TarInfo(item[0])
                member.size = len(item[1])
                archive.addfile(member, io.BytesIO(item[1]))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("prefix", ["", "./", "/"])
def test_a_model_comes_out_as_it_went_in(folder: Folder, compression: str, prefix: str) -> None:
    archive = COMPRESSIONS[compression](
        tar(*((prefix + path, content) for path, content in MODEL.items()))
    )
    files = unpack(Stream(archive), folder)
    assert {path: content for path, content in folder.tree().items() if content} == MODEL
    assert [file.path for file in files] == sorted(MODEL)
    assert {file.path: file.size for file in files} == {
        path: len(content) for path, content in MODEL.items()
    }
    assert files[-1].sha256 == __import__("hashlib").sha256(MODEL[files[-1].path]).hexdigest()


def test_no_more_is_unpacked_than_the_limit_of_bytes(folder: Folder) -> None:
    archive = tar(("a", b"123"), ("b", b"4567"), ("b", b"89"), ("c", b"0"))
    with pytest.raises(SizeExceeded):
        unpack_within(Stream(archive), folder, Limits(size=6))
    assert folder.tree() == {"a": b"123"}


def test_of_a_file_that_an_archive_holds_twice_the_later_one_counts(folder: Folder) -> None:
    archive = tar(("a", b"123"), ("b", b"45"), ("b", b"678"), ("c", b"0"))
    unpack_within(Stream(archive), folder, Limits(size=7))
    assert folder.tree() == {"a": b"123", "b": b"678", "c": b"0"}


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_every_style_of_tar_is_read(folder: Folder, style: int) -> None:
    path = "assets/" + "long-" * 18 + "/" + "ü" * 20
    unpack(Stream(gzip.compress(tar((path, b"x"), ("saved_model.pb", b"y"), format=style))), folder)
    assert folder.tree()[path] == b"x"


def test_empty_folders_are_kept(folder: Folder) -> None:
    root, assets = special(".", tarfile.DIRTYPE), special("./assets", tarfile.DIRTYPE)
    unpack(Stream(gzip.compress(tar(root, assets, ("./saved_model.pb", b"x")))), folder)
    assert folder.tree() == {"assets": None, "saved_model.pb": b"x"}


def test_the_later_of_two_members_of_one_name_counts(folder: Folder) -> None:
    files = unpack(Stream(tar(("a", b"long old"), ("./a", b"new"))), folder)
    assert folder.tree() == {"a": b"new"}
    assert [(file.path, file.size) for file in files] == [("a", 3)]


def test_several_gzip_members_are_one_archive(folder: Folder) -> None:
    whole = tar(*MODEL.items())
    unpack(Stream(gzip.compress(whole[:5000]) + gzip.compress(whole[5000:])), folder)
    assert {path: content for path, content in folder.tree().items() if content} == MODEL


def test_modes_owners_and_times_of_the_archive_do_not_count(folder: Folder) -> None:
    member = tarfile.TarInfo("saved_model.pb")
    member.mode, member.uid, member.mtime = 0o6777, 12345, 1
    unpack(Stream(tar(member)), folder)
    status = (folder.root / "saved_model.pb").stat()
    assert not status.st_mode & 0o6111
    assert status.st_uid == os.getuid()
    assert status.st_mtime > 1e9


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "./../evil", "/../evil", "..", "a/b/../../../evil"]
)
def test_a_member_that_escapes_is_refused(folder: Folder, name: str) -> None:
    archive = gzip.compress(tar(("saved_model.pb", b"x"), (name, b"evil")))
    with pytest.raises(UnsafeArchiveError, match="is invalid"):
        unpack(Stream(archive), folder)
    assert [path.name for path in folder.root.parent.iterdir()] == ["staging"]


@pytest.mark.parametrize(
    "member",
    [
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.SYMTYPE, "saved_model.pb"),
        special("link", tarfile.LNKTYPE, "saved_model.pb"),
        special("device", tarfile.CHRTYPE),
        special("device", tarfile.BLKTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}-{member.linkname}",
)
def test_links_and_devices_are_refused(folder: Folder, member: tarfile.TarInfo) -> None:
    archive = gzip.compress(tar(("saved_model.pb", b"x"), member, ("link/through", b"evil")))
    with pytest.raises(UnsafeArchiveError, match="neither a file nor a folder"):
        unpack(Stream(archive), folder)
    assert list(folder.tree()) in (["saved_model.pb"], [])


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_that_is_a_file_and_a_folder_is_an_error(folder: Folder, names) -> None:
    with pytest.raises(UnsafeArchiveError, match=r"'a.*' as a file and as a folder"):
        unpack(Stream(tar(*((name, b"x") for name in names))), folder)


NO_ARCHIVES = {
    "nothing": b"",
    "one byte": b"\x1f",
    "a web page": b"<!doctype html><title>a page</title>",
    "text": b"just some text " * 100,
    "a compressed file": gzip.compress(b"a file, but no tar"),
    "compressed nothing": gzip.compress(b""),
    "zeros": bytes(10240),
    "a tar of nothing": tar(),
    "broken gzip": b"\x1f\x8b" + bytes(100),
    "broken bzip2": b"BZh9" + bytes(100),
    "broken xz": b"\xfd7zXZ\x00" + bytes(100),
}


@pytest.mark.parametrize("what", NO_ARCHIVES)
def test_what_is_no_archive_of_files_is_an_error(folder: Folder, what: str) -> None:
    with pytest.raises(ArchiveError):
        unpack(Stream(NO_ARCHIVES[what]), folder)


PLAIN = tar(("a", b"a" * 600), ("b", b"b" * 600), ("c", b"c" * 600))


@pytest.mark.parametrize("header", [0, 1536, 3072])
def test_a_damaged_header_in_a_plain_tar_is_noticed(folder: Folder, header: int) -> None:
    with pytest.raises(ArchiveError):
        unpack(Stream(PLAIN[:header] + b"?" + PLAIN[header + 1 :]), folder)


@pytest.mark.parametrize("end", [1536, 3072, 4608])
def test_a_plain_tar_that_ends_between_two_files_is_noticed(folder: Folder, end: int) -> None:
    with pytest.raises(ArchiveError):
        unpack(Stream(PLAIN[:end]), folder)


def test_what_follows_the_end_of_an_archive_is_no_padding(folder: Folder) -> None:
    with pytest.raises(ArchiveError, match="follows its end"):
        unpack(Stream(PLAIN + PLAIN), folder)


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.9999999])
def test_an_archive_that_ends_too_early_is_an_error(
    folder: Folder, compression: str, share: float
) -> None:
    archive = COMPRESSIONS[compression](tar(*MODEL.items()))
    with pytest.raises(ArchiveError):
        unpack(Stream(archive[: int(len(archive) * share)]), folder)


def test_a_flipped_bit_is_noticed_by_the_checksum(folder: Folder) -> None:
    archive = bytearray(gzip.compress(tar(*MODEL.items()), compresslevel=0))
    archive[len(archive) // 2] ^= 1
    stream = Stream(bytes(archive))
    with pytest.raises(ArchiveError):
        unpack(stream, folder)
    assert stream.closed


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_trouble_of_the_network_is_reported_as_such(folder: Folder, compression: str) -> None:
    archive = COMPRESSIONS[compression](tar(*MODEL.items()))
    with pytest.raises(DownloadError, match="the cable"):
        unpack(Stream(archive[:-2000], error=DownloadError("the cable")), folder)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_trouble_of_the_disk_is_reported_as_such(folder: Folder, compression: str) -> None:
    class Full(Folder):
        def create_file(self, path: str, size: int, *, replace: bool):
            raise OSError(28, "No space left on device")

    full = Full(folder.root / "full")
    with pytest.raises(OSError, match="No space left") as error:
        unpack(Stream(COMPRESSIONS[compression](tar(*MODEL.items()))), full)
    assert not isinstance(error.value, ArchiveError)
