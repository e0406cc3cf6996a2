"""The file behind a dataset: the user's copy, or a download kept by `ir_datasets`. Both are checked."""

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
    """Reads datasets from copies on this machine instead of downloading them.

    Sets the environment variable `JACOLBERT_DATA`, so that worker processes started later use the copies, too. A
    dataset whose file is not in the folder is still downloaded.

    Args:
        folder: folder with the files listed in `pyterrier_jacolbert.datasets`, such as `jsquad/valid-v1.3.json`.

    Raises:
        NotADirectoryError: the folder does not exist.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder; give the folder that contains jsquad/ and the other files.")
    os.environ[LOCAL_DATA] = str(path)


def local_root() -> Path | None:
    """Returns the folder of the user's copies, or None if `JACOLBERT_DATA` is not set.

    Raises:
        NotADirectoryError: `JACOLBERT_DATA` is set to a path that is not a folder.
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
    """A file of a dataset.

    Attributes:
        path: path relative to `$JACOLBERT_DATA` and, once downloaded, to the folder of `ir_datasets`. The user's copy
            may be gzipped; its name then ends in `.gz`.
        url: download address.
        md5: MD5 checksum of the file in hex. It is MD5 because that is what `ir_datasets` checks downloads with.
        git_blob: Git blob hash of the file in hex, for a file of a repository that publishes no other checksum. If both
            checksums are None, a wrong file is detected only by its record counts, and a warning at the download says
            so.
    """

    path: str
    url: str
    md5: str | None = None
    git_blob: str | None = None
    # (path, size, modification time in ns) of each verified copy: a copy is read often and seldom changes.
    _verified: set[tuple[Path, int, int]] = field(default_factory=set, init=False, repr=False, compare=False)

    def file(self) -> Path:
        """Returns the path of the verified file, after downloading it if necessary.

        Returns:
            The path of the user's copy if there is one, otherwise that of the copy kept by `ir_datasets`.

        Raises:
            ValueError: the copy or the download is not the published file. The message gives both checksums.
            NotADirectoryError: `JACOLBERT_DATA` is set to a path that is not a folder.
            FileNotFoundError: there is no copy, and the download failed. The message gives both remedies.
        """
        local_copy = self._local_copy()
        return self._download() if local_copy is None else self.verify(local_copy)

    def read(self) -> bytes:
        """Returns the content of the file, decompressed if the copy is gzipped; raises the errors of :meth:`file`."""
        return _read_content(self.file())

    def is_here(self) -> bool:
        """Tells whether this machine has a copy, so that nothing needs to be downloaded."""
        return self._local_copy() is not None or (home_path() / self.path).exists()

    def verify(self, path: Path) -> Path:
        """Checks a copy of the file against the published checksum and returns its path.

        Raises:
            ValueError: the copy is unreadable or is not the published file.
        """
        stat = path.stat()
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._verified:
            kind, published, actual = self._checksums(path)
            if actual != published:
                raise ValueError(
                    f"{path} has {kind} {actual}, but the published file has {published}; "
                    f"get it again from {self.url}, or remove it to have it downloaded."
                )
            self._verified.add(key)
        return path

    def _local_copy(self) -> Path | None:
        root = local_root()
        if root is None:
            return None
        copies = (root / self.path, root / f"{self.path}.gz")
        return next((path for path in copies if path.exists()), None)

    def _checksums(self, path: Path) -> tuple[str, str | None, str | None]:
        """Returns the kind of checksum, its published value, and the value of the copy."""
        try:
            content = _read_content(path)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} cannot be read ({error}); get it again from {self.url}.") from None
        if self.md5 is not None:
            return "md5", self.md5, hashlib.md5(content, usedforsecurity=False).hexdigest()
        if self.git_blob is not None:
            blob = b"blob %d\0%b" % (len(content), content)
            return "git blob", self.git_blob, hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        return "no checksum", None, None

    def _download(self) -> Path:
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
            return self.verify(path)
        except ValueError:
            # ir_datasets checks an MD5 before it keeps the file; a different checksum is checked only here.
            if self.md5 is None:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            raise


def _read_content(path: Path) -> bytes:
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            return stream.read()
    return path.read_bytes()
