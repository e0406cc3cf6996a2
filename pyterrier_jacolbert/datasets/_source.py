"""The file behind a data set: the user's own copy, or a download that `ir_datasets` keeps; checked either way."""

import contextlib
import gzip
import hashlib
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from ir_datasets import lazy_libs
from ir_datasets.util import Download, HashVerificationError, RequestsDownload, home_path

LOCAL_DATA = "JACOLBERT_DATA"


def use_local(folder: str | os.PathLike[str]) -> None:
    """Read data sets from copies on this machine instead of downloading them.

    Sets the environment variable `JACOLBERT_DATA`, so worker processes started later use the copies too. A data set
    whose file is not in the folder is still downloaded.

    Args:
        folder: Holds the files as `pyterrier_jacolbert.datasets` lists them, such as `jsquad/valid-v1.3.json`.

    Raises:
        NotADirectoryError: There is no such folder.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder; give the folder that holds jsquad/ and its neighbours.")
    os.environ[LOCAL_DATA] = str(path)


def local_root() -> Path | None:
    """The folder of the user's own copies, or None.

    Raises:
        NotADirectoryError: `JACOLBERT_DATA` is set to something that is not a folder.
    """
    folder = os.environ.get(LOCAL_DATA)
    if not folder:
        return None
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise NotADirectoryError(f"{LOCAL_DATA} is set to {folder!r}, which is not a folder; correct it or unset it.")
    return root


@dataclass(frozen=True)
class Source:
    """A file of a data set.

    Attributes:
        path: Where it lies, relative to `$JACOLBERT_DATA`, and to the folder of `ir_datasets` once downloaded. A copy
            of the user's may be gzipped, with `.gz` at the end of its name.
        url: Where it is downloaded from.
        md5: Checksum of the file, in hex: md5 because it is the one that `ir_datasets` checks downloads with.
        git_blob: The name of its blob in git, in hex, for a file of a repository of which only that is known. With
            neither checksum nothing but the record counts tells a wrong file, which a warning says at the download.
    """

    path: str
    url: str
    md5: str | None = None
    git_blob: str | None = None
    # (path, size, time of change in ns) of each copy that has passed: a copy is read often and seldom changes.
    _checked: set[tuple[Path, int, int]] = field(default_factory=set, init=False, repr=False, compare=False)

    def file(self) -> Path:
        """The file on this machine, checked; downloaded if need be.

        Returns:
            The path of the user's copy if there is one, or else of the one that `ir_datasets` keeps.

        Raises:
            ValueError: The copy or the download is not the file that was published; the message gives both checksums.
            NotADirectoryError: `JACOLBERT_DATA` is set to something that is not a folder.
            FileNotFoundError: There is no copy, and it cannot be downloaded; the message gives both remedies.
        """
        local = self._local_copy()
        return self._downloaded() if local is None else self._check(local)

    def read(self) -> bytes:
        """The content of the file, decompressed if the copy is gzipped; raises as `file` does."""
        return _content(self.file())

    def is_here(self) -> bool:
        """Whether there is a copy on this machine, so that nothing would be downloaded."""
        return self._local_copy() is not None or (home_path() / self.path).exists()

    def _local_copy(self) -> Path | None:
        root = local_root()
        if root is None:
            return None
        copies = (root / self.path, root / f"{self.path}.gz")
        return next((path for path in copies if path.exists()), None)

    def _check(self, path: Path) -> Path:
        stat = path.stat()
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._checked:
            kind, published, found = self._checksums(path)
            if found != published:
                raise ValueError(
                    f"{path} has {kind} {found}, but the published file has {published}; "
                    f"get it again from {self.url}, or remove it to have it downloaded."
                )
            self._checked.add(key)
        return path

    def _checksums(self, path: Path) -> tuple[str, str | None, str | None]:
        """The kind of checksum, the published one and the file's."""
        try:
            content = _content(path)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} cannot be read ({error}); get it again from {self.url}.") from None
        if self.md5 is not None:
            return "md5", self.md5, hashlib.md5(content, usedforsecurity=False).hexdigest()
        if self.git_blob is not None:
            blob = b"blob %d\0%b" % (len(content), content)
            return "git blob", self.git_blob, hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        return "no checksum", None, None

    def _downloaded(self) -> Path:
        kept = home_path() / self.path
        if self.md5 is None and self.git_blob is None and not kept.exists():
            warnings.warn(f"No checksum of {self.url} is known; only its record counts are checked.", stacklevel=2)
        download = Download([RequestsDownload(self.url)], expected_md5=self.md5, cache_path=str(kept))
        try:
            path = Path(download.path())
        except HashVerificationError as error:
            raise ValueError(f"The download of {self.url} is not the published file: {error}; try again.") from None
        except lazy_libs.requests().exceptions.RequestException as error:
            raise FileNotFoundError(
                f"{self.path} is not on this machine and could not be downloaded ({type(error).__name__}): connect to "
                f"the network, or set {LOCAL_DATA} to a folder that holds a copy of {self.url} as {self.path}."
            ) from None
        try:
            return self._check(path)
        except ValueError:
            # ir_datasets has checked an md5 before it kept the file; another checksum is seen only here.
            if self.md5 is None:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            raise


def _content(path: Path) -> bytes:
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            return stream.read()
    return path.read_bytes()
