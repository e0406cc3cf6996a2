"""The file behind a data set: the user's own copy, or a download that `ir_datasets` keeps; checked either way."""

import hashlib
import os
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


@dataclass(frozen=True)
class Source:
    """A file of a data set.

    Attributes:
        path: Where it lies, relative to `$JACOLBERT_DATA`, and to the folder of `ir_datasets` once downloaded.
        url: Where it is downloaded from.
        md5: Checksum of the file, in hex: md5 because it is the one that `ir_datasets` checks downloads with.
    """

    path: str
    url: str
    md5: str
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

    def _local_copy(self) -> Path | None:
        folder = os.environ.get(LOCAL_DATA)
        if not folder:
            return None
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise NotADirectoryError(
                f"{LOCAL_DATA} is set to {folder!r}, which is not a folder; correct it or unset it."
            )
        path = root / self.path
        return path if path.exists() else None

    def _check(self, path: Path) -> Path:
        stat = path.stat()
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._checked:
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if md5 != self.md5:
                raise ValueError(
                    f"{path} has md5 {md5}, but the published file has {self.md5}; "
                    f"get it again from {self.url}, or remove it to have it downloaded."
                )
            self._checked.add(key)
        return path

    def _downloaded(self) -> Path:
        kept = home_path() / self.path
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
        return self._check(path)
