"""Byte ranges of files, over HTTP or from a disk.

All requests for them, their retries and new signatures are made here, except those of GDAL, which only gets a checked
address. Redirects are checked, and a connection that leads to a private address is closed before a request is sent.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import urllib3

from eoap_dask.errors import AssetError, HrefError, NetworkSettingError, SigningError
from eoap_dask.net.connections import ProxyError, answered
from eoap_dask.net.deadline import WATCH
from eoap_dask.net.hrefs import check_href
from eoap_dask.net.resolve import resolve_href
from eoap_dask.net.retry import MAX_PAUSE_S, Attempt, Retry, retrying
from eoap_dask.readers.faults import BROKEN_PART, NOT_A_RASTER
from eoap_dask.redact import redact

if TYPE_CHECKING:
    from eoap_dask.net.signing import Signer

_BUSY = frozenset({429, 500, 502, 503, 504})
_WAITS = 2
_BUSY_S = 0.5
"""Pauses for a busy server: how many, and how long at least; as GDAL does."""

T = TypeVar("T")

_CONNECT_S = 20.0
_SILENCE_S = 60.0
_REDIRECTS = 3
_SIGNED_S = 30.0
"""How long a signed URL is used again. Signatures are valid for a minute at least."""

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)

_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


class RetryableReadError(Exception):
    """A request failed, and another attempt may succeed.

    `why` ends a sentence, with its full stop; `status` is the server's, 0 without one; `after_s` is its Retry-After.
    """

    def __init__(self, why: str, status: int = 0, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.after_s = after_s


class FinalReadError(Exception):
    """A request failed for good; `why` as in `RetryableReadError`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class FileReplacedError(Exception):
    """The file has changed since its header was read."""


@dataclass(frozen=True, slots=True)
class FileState:
    """Marks by which one state of a file differs from another."""

    size: int
    """Bytes."""
    etag: str = ""
    modified: str = ""
    """Time of the last change, in the server's or the file system's notation."""

    def is_other(self, than: FileState) -> bool:
        """Tell whether the file was replaced in between, as far as its server shows.

        Mirrors behind one name may have ETags of their own for the same file: one equal mark is enough.
        """
        if self.size != than.size:
            return True
        marks = [(a, b) for a, b in ((self.etag, than.etag), (self.modified, than.modified)) if a and b]
        return bool(marks) and all(a != b for a, b in marks)


class ByteSource(Protocol):
    """A file that can be read in parts. Threads may share it."""

    def read(
        self, start: int, stop: int, use: Callable[[memoryview, FileState], T], state: FileState | None = None
    ) -> T:
        """Fetch bytes and process them; both are tried again where they fail.

        Parameters
        ----------
        start, stop
            First byte, and the one after the last.
        use
            Gets the bytes, fewer where the file ends before, and the state of the file. Raises `RetryableReadError`
            for bytes that make no sense.
        state : FileState, optional
            The state that the file must still have.

        Returns
        -------
        T
            What `use` returned.

        Raises
        ------
        AssetError
            after the last attempt, or where another can't help
        FileReplacedError
            when the file has another state
        """
        ...


class HttpFile:
    """A file on a server.

    `href` is unsigned; `private_hosts` may be asked although they are private; `fault` makes the `AssetError` from a
    reason and the number of attempts.
    """

    def __init__(
        self,
        href: str,
        signer: Signer,
        retry: Retry,
        private_hosts: frozenset[str],
        fault: Callable[[str, int], AssetError],
    ) -> None:
        self.href = href
        self.signer = signer
        self.retry = retry
        self.private_hosts = private_hosts
        self.fault = fault
        self._at: tuple[str, float] | None = None
        """Signed address after redirects, and until when it is used."""
        self._stale = False

    def read(
        self, start: int, stop: int, use: Callable[[memoryview, FileState], T], state: FileState | None = None
    ) -> T:
        """Fetch bytes and process them, as `ByteSource.read`."""
        part = _Part(start, stop, state)

        def take(answer: urllib3.BaseHTTPResponse) -> T:
            return use(*_body(answer, part))

        return retrying(
            partial(self._attempt, part, take), self.retry, (RetryableReadError, SigningError), self._give_up
        )

    def leads_to(self, attempt: Attempt, *, fresh: bool = False) -> str:
        """Return the signed address of the file after redirects, each of them checked; `fresh` signs anew.

        Raises SigningError and RetryableReadError where another attempt may help, else FinalReadError.
        """
        self._stale = fresh
        try:
            self._ask(_Part(0, 16, None), _check_status, attempt)
        except urllib3.exceptions.HTTPError as error:
            fault = RetryableReadError(_plain(error))
        else:
            return self._url()
        raise fault

    def _give_up(self, last: Exception, attempts: int) -> AssetError:
        return self.fault(last.what if isinstance(last, SigningError) else getattr(last, "why", str(last)), attempts)

    def _attempt(self, part: _Part, take: Callable[[urllib3.BaseHTTPResponse], T], attempt: Attempt) -> T:
        fault: Exception
        try:
            return self._ask(part, take, attempt)
        except RetryableReadError as error:
            self._at = None
            self._stale = self._stale or error.status in (400, 401, 403, 404)  # an old signature, perhaps
            fault = error
        except FinalReadError as error:
            fault = self.fault(error.why, attempt.number)
        except urllib3.exceptions.HTTPError as error:
            self._at = None
            fault = RetryableReadError(_plain(error))
        raise fault  # without a context, which can't always be pickled

    def _ask(self, part: _Part, take: Callable[[urllib3.BaseHTTPResponse], T], attempt: Attempt) -> T:
        """Send a request, and pause for a busy server: that doesn't count as an attempt."""
        ends = time.monotonic() + attempt.left_s
        for _ in range(_WAITS):
            try:
                return self._follow(part, take, attempt)
            except RetryableReadError as error:
                pause = min(max(error.after_s, _BUSY_S), MAX_PAUSE_S)
                if error.status not in _BUSY or time.monotonic() + pause >= ends:
                    raise
            time.sleep(pause * random.uniform(1, 1.5))  # noqa: S311 - no secret
            attempt = Attempt(attempt.number, max(ends - time.monotonic(), 0.001))
        return self._follow(part, take, attempt)

    def _url(self) -> str:
        now = time.monotonic()
        at = self._at
        if at is not None and now < at[1]:
            return at[0]
        fresh, self._stale = self._stale, False
        url = self.signer.sign(self.href, fresh=fresh)
        self._check(url)
        self._at = (url, now + _SIGNED_S)
        return url

    def _check(self, url: str) -> None:
        try:
            check_href(url, private_hosts=self.private_hosts)
        except HrefError as error:
            fault = FinalReadError(error.what)
        else:
            return
        raise fault

    def _follow(self, part: _Part, take: Callable[[urllib3.BaseHTTPResponse], T], attempt: Attempt) -> T:
        url = self._url()
        for _ in range(_REDIRECTS + 1):
            with _answer(url, part, self.private_hosts, attempt.left_s) as answer:
                if answer.status not in (301, 302, 303, 307, 308):
                    return take(answer)
                target = _target(url, answer.headers.get("Location", ""))
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise FinalReadError("its server redirects from https to http.")
            self._check(target)
            self._at = (target, time.monotonic() + _SIGNED_S)
            url = target
        raise FinalReadError(f"its server redirects more than {_REDIRECTS} times.")


class LocalFile:
    """A file on a disk of this machine; `fault` as in `HttpFile`."""

    def __init__(self, path: Path, fault: Callable[[str, int], AssetError]) -> None:
        self.path = path
        self.fault = fault

    def read(
        self, start: int, stop: int, use: Callable[[memoryview, FileState], T], state: FileState | None = None
    ) -> T:
        """Read bytes and process them, as `ByteSource.read`, but once."""
        try:
            file = os.open(self.path, os.O_RDONLY)
            try:
                found = os.fstat(file)
                now = FileState(found.st_size, modified=str(found.st_mtime_ns))
                if state is not None and now.is_other(state):
                    raise FileReplacedError
                return use(memoryview(os.pread(file, max(min(stop, now.size) - start, 0), start)), now)
            finally:
                os.close(file)
        except OSError as error:
            fault = self.fault(f"{error.strerror or type(error).__name__}.", 1)
        except (RetryableReadError, FinalReadError) as broken:
            fault = self.fault(broken.why, 1)
        raise fault


# ----------------------------------------------------------------------------------------------------
# One request


def _target(url: str, location: str) -> str:
    """Return where a redirect leads."""
    with suppress(ValueError):
        target = resolve_href(url, location)
        urlsplit(target)
        return target
    raise FinalReadError("its server redirects to an invalid address.")


class _Part(NamedTuple):
    """The bytes of a request."""

    start: int
    stop: int
    state: FileState | None
    """The state that the file must have."""


@contextmanager
def _answer(url: str, part: _Part, private_hosts: frozenset[str], left_s: float) -> Iterator[urllib3.BaseHTTPResponse]:
    """Request a range, and yield the answer with its body unread; the connection is kept if it was read to the end."""
    headers = {"Range": f"bytes={part.start}-{part.stop - 1}", "Accept-Encoding": "identity"}
    timeout = urllib3.Timeout(connect=min(_CONNECT_S, left_s), read=min(_SILENCE_S, left_s))
    with WATCH.holding(time.monotonic() + left_s):
        try:
            with answered("GET", url, headers=headers, private_hosts=private_hosts, timeout=timeout) as response:
                yield response
            return
        except (HrefError, NetworkSettingError) as error:
            fault: Exception = FinalReadError(" ".join(part for part in (error.what, error.hint) if part))
        except ProxyError as error:
            kind = FinalReadError if error.is_final else RetryableReadError
            fault = kind(f"{error.why}. {error.hint}")
    raise fault  # without a context, which can't always be pickled


def _check_status(answer: urllib3.BaseHTTPResponse) -> None:
    if answer.status not in (200, 206):
        asked = answer.headers.get("Retry-After", "")
        after_s = float(asked) if _SECONDS.fullmatch(asked) else 0.0
        raise RetryableReadError(f"the server answered {answer.status}.", answer.status, after_s)


def _body(answer: urllib3.BaseHTTPResponse, part: _Part) -> tuple[memoryview, FileState]:
    """Return the bytes of an answer, and the state of the file. Never reads more than was requested."""
    start, stop, _ = part
    if answer.status == 416:
        if part.state is not None:
            raise FileReplacedError  # it became shorter
        raise RetryableReadError(BROKEN_PART if start else NOT_A_RASTER, 416)
    _check_status(answer)
    if answer.headers.get("Content-Encoding", "identity") not in ("identity", ""):
        raise RetryableReadError("its server adds a compression of its own (Content-Encoding).")
    if answer.status == 200:
        return _whole(answer, part)
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if not found or found[3] == "*" or int(found[1]) != start:
        raise RetryableReadError("its server sent another byte range than was requested.")
    size, end = int(found[3]), int(found[2]) + 1
    state = _state(answer, size, part)
    if end != min(stop, size):
        raise RetryableReadError("its server sent another byte range than was requested.")
    return _exactly(answer, end - start), state


def _state(answer: urllib3.BaseHTTPResponse, size: int, part: _Part) -> FileState:
    """Return the state of the file in an answer; FileReplacedError when it isn't the requested one."""
    found = FileState(size, answer.headers.get("ETag", "")[:256], answer.headers.get("Last-Modified", "")[:64])
    if part.state is not None and found.is_other(part.state):
        raise FileReplacedError
    return found


def _whole(answer: urllib3.BaseHTTPResponse, part: _Part) -> tuple[memoryview, FileState]:
    """Take a whole file that is no longer than the requested part; refuse servers that ignore ranges."""
    if part.start == 0:
        body = answer.read(part.stop)
        if body[:2] not in (b"II", b"MM"):
            raise RetryableReadError(NOT_A_RASTER)
        length = answer.headers.get("Content-Length", "")
        if length == str(len(body)):
            return memoryview(body), _state(answer, len(body), part)
    raise FinalReadError("its server sends whole files only (it ignores Range).")


def _exactly(answer: urllib3.BaseHTTPResponse, size: int) -> memoryview:
    body = answer.read(size)
    if len(body) != size:
        raise RetryableReadError(BROKEN_PART)
    return memoryview(body)


def _plain(error: Exception) -> str:
    """Translate urllib3's error into words for users."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its server's name can't be resolved."
    if isinstance(error, urllib3.exceptions.SSLError):
        return f"TLS with its server failed ({redact(' '.join(str(error).split()))})."
    if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ProxyError):
        return "its server can't be reached."
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "its server didn't answer in time."
    return BROKEN_PART
