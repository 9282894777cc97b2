"""HTTP requests to a catalogue: retried, with checked addresses and bounded answers."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit, urlunsplit

import urllib3
from loguru import logger

from eoap_dask.errors import SearchError, StatusError, UsageError
from eoap_dask.net.connections import ProxyError, answered
from eoap_dask.net.deadline import within
from eoap_dask.net.hrefs import check_href
from eoap_dask.net.resolve import resolve_href
from eoap_dask.net.signing import origin
from eoap_dask.redact import redact
from eoap_dask.text import option as as_written

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_BACKOFF_S = 0.5
_LONGEST_PAUSE_S = 20.0
_LONGEST_WAIT_S = 60.0  # that a Retry-After may ask for
_CONNECT_S = 10.0
# A timeout is for each part of an answer; the whole may take this many times as long.
_WHOLE_ANSWER = 10
# A misspelt host should be reported sooner than a server that is down for a moment.
_RETRIES_UNKNOWN_HOST = 2
_REDIRECTS = 5
_REDIRECTING = frozenset({301, 302, 303, 307, 308})
# 1000 items of Sentinel-2 are some 50 MB; an answer without end must not fill the memory.
_ANSWER_BYTES = 512 * 1024**2


@dataclass(frozen=True)
class Wording:
    """Words for what is requested, in messages."""

    noun: str
    """What is at the URL."""
    expected: str
    """What is needed there, as a sentence."""
    check: str
    """What to check, without a full stop."""
    other: str
    """What to do when trying again is of no use, without a full stop."""


CATALOGUE = Wording(
    "catalogue",
    "Expected a STAC API with item search, a static catalog or a file of items.",
    "Check the URL of the catalogue",
    "use another catalogue",
)


class _TransientError(Exception):
    """A fault that may pass, with the one to raise when it doesn't."""

    def __init__(self, fault: SearchError, wait_s: float | None = None, retries: int | None = None) -> None:
        super().__init__(fault)
        self.fault = fault
        self.wait_s = wait_s
        self.retries = retries


@dataclass(frozen=True)
class HttpPolicy:
    """How requests are sent: allowed private hosts, timeouts, retries, wording."""

    private_hosts: frozenset[str]
    timeout_s: float = 30.0
    """Longest wait for an answer."""
    retries: int = 5
    """Repetitions after 429, 5xx, timeouts and lost connections, with growing pauses."""
    wording: Wording = CATALOGUE
    named: str = ""
    """URL that the user gave. If it is https, no request goes over http; if it is http, its origin may get a password
    over http."""

    @property
    def is_encrypted(self) -> bool:
        """Whether every request must go over https."""
        found = origin(self.named)
        return found is not None and found[0] == "https"

    most_bytes: int | None = None
    """Longest answer; None means 512 MiB."""
    came: Callable[[int], None] | None = None
    """Receives the number of bytes of each part, in several threads; may raise to end the transfer."""

    def get(self, url: str) -> bytes:
        """Return the body behind a URL, or raise `SearchError` (`StatusError` for an error status) or `HrefError`.

        Raises `NetworkSettingError` for a variable of the environment that can't be used.
        """
        return self.send("GET", url)

    def send(
        self,
        verb: str,
        url: str,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the answer to a request of any kind, as `get`; `parameters` go into a POST's body or a GET's query."""
        import tenacity

        # Not urllib3's retries: they leave out POST, never repeat an answer that broke off in its body, wait as long
        # as any Retry-After says, and hide the status behind a text.
        def stop(state: tenacity.RetryCallState) -> bool:
            fault = state.outcome.exception() if state.outcome else None
            limit = fault.retries if isinstance(fault, _TransientError) else None
            return state.attempt_number > (self.retries if limit is None else min(limit, self.retries))

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            stop=stop,
            wait=_wait,
            sleep=_sleep,
            before_sleep=_say_retry,
            reraise=True,
        )
        try:
            return attempts(_send, self, verb, url, headers, parameters)
        except _TransientError as fault:
            raise fault.fault from None

    def refused(self, url: str, why: str, hint: str = "") -> SearchError:
        """Return the fault of an answer that can't be used; `why` follows the URL in its sentence."""
        wording = self.wording
        return SearchError(f"The {wording.noun} at {redact(url)} {why}.", wording.expected, hint or f"{wording.check}.")


def parse_json(content: bytes | str, url: str, how: HttpPolicy) -> dict[str, Any]:
    """Return the JSON object of an answer, or raise `SearchError` in the policy's wording."""
    text = content if isinstance(content, str) else content.decode("utf-8-sig", "replace")
    try:
        # NaN isn't JSON, but some catalogues write it
        found = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise how.refused(url, f"answered {what_instead(text)} instead of JSON") from None
    if not isinstance(found, dict):
        raise how.refused(url, "is JSON, but not STAC")
    return found


def what_instead(text: str) -> str:
    """Return in words what an answer is that isn't JSON."""
    return "a web page" if re.match(r"\s*<(!doctype|html)", text, re.I) else "something else"


def check_url(text: str, what: str, option: str, example: str) -> str:
    """Return a URL without surrounding blanks and trailing slashes, or raise `UsageError`; contacts nothing."""
    text = text.strip()
    shown, expected = as_written(option), f"Expected the http(s) URL of a {what}."
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", text):
        raise UsageError(
            f"The URL {redact(text)!r} of {shown} isn't valid.", expected, f"Try {as_written(option, example)}."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"The URL {redact(text)} of {shown} contains a user name, a query or a fragment.",
            "Expected a bare URL, because it is written into the results.",
            "Put user name and password into ~/.netrc.",
        )
    return text.rstrip("/")


def _say_retry(state: Any) -> None:
    fault = state.outcome.exception()
    what = fault.fault.what if isinstance(fault, _TransientError) else str(fault)
    logger.info("{} Trying again in {:.0f} s.", what, state.next_action.sleep)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _wait(state: Any) -> float:
    """Return the pause before the next attempt in seconds: the server's Retry-After, else growing and random."""
    fault = state.outcome.exception()
    if isinstance(fault, _TransientError) and fault.wait_s is not None:
        return min(fault.wait_s, _LONGEST_WAIT_S)
    pause = _BACKOFF_S * 2.0 ** min(int(state.attempt_number) - 1, 10)
    return min(_LONGEST_PAUSE_S, pause) + random.uniform(0, _BACKOFF_S)  # noqa: S311  no secret depends on it


def _send(
    how: HttpPolicy, verb: str, href: str, headers: dict[str, str] | None, parameters: dict[str, Any] | None
) -> bytes:
    """Return the body of an answer; redirects keep method and body."""
    is_encrypted = how.is_encrypted
    has_body = verb in ("POST", "PUT", "PATCH")
    for _ in range(_REDIRECTS + 1):
        check_href(href, private_hosts=how.private_hosts)
        scheme = urlsplit(href).scheme.lower()
        if is_encrypted and scheme != "https":
            raise how.refused(href, "would be read over http, though what leads to it is https")
        is_encrypted = is_encrypted or scheme == "https"
        whole = href if has_body or not parameters else _with_query(href, parameters)
        body = json.dumps(parameters).encode() if has_body and parameters is not None else None
        sent = {**_HEADERS, **({"Content-Type": "application/json"} if body else {}), **(headers or {})}
        exchange = partial(_exchange, how, verb, whole, sent, body)
        fault: Exception
        try:
            answer = within(_WHOLE_ANSWER * how.timeout_s, exchange)
        except TimeoutError:
            why = f"can't be reached: its answer didn't end within {_WHOLE_ANSWER * how.timeout_s:g} s"
            hint = f"Try again later, or {how.wording.other}."
            fault = _TransientError(how.refused(href, why, hint), retries=1)
        except ProxyError as error:
            why = f"can't be reached: {error.why}"
            fault = _TransientError(how.refused(href, why, error.hint), retries=0 if error.is_final else None)
        except urllib3.exceptions.HTTPError as error:
            fault = _explained(error, href, how)
        else:
            if answer.leads_to is None:
                return _checked_answer(answer, href, how)
            href, parameters = resolve_href(whole, answer.leads_to), parameters if has_body else None
            try:
                urlsplit(href)
            except ValueError:  # brackets of an IPv6 address that isn't one
                raise how.refused(whole, "redirects to something that isn't a URL") from None
            continue
        raise fault  # without a context: its text holds the whole URL, and may hold a secret
    raise how.refused(href, f"redirects more than {_REDIRECTS} times")


_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate"}


def _with_query(href: str, parameters: dict[str, Any]) -> str:
    """Return a URL with parameters added to its query."""
    parts = urlsplit(href)
    added = urlencode({key: value for key, value in parameters.items() if value is not None}, doseq=True)
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, added)))))


class _Answer(NamedTuple):
    """An answer that was read to its end, unless it is a redirect."""

    status: int
    headers: Mapping[str, str]
    leads_to: str | None
    content: bytes


def _exchange(how: HttpPolicy, verb: str, url: str, headers: dict[str, str], body: bytes | None) -> _Answer:
    timeout = urllib3.Timeout(connect=min(_CONNECT_S, how.timeout_s), read=how.timeout_s)
    options: dict[str, Any] = {"private_hosts": how.private_hosts, "named": how.named, "timeout": timeout}
    with answered(verb, url, headers=headers, body=body, **options) as response:
        leads_to = response.headers.get("Location") if response.status in _REDIRECTING else None
        return _Answer(response.status, response.headers, leads_to, b"" if leads_to else _read(response, url, how))


def _read(response: urllib3.BaseHTTPResponse, href: str, how: HttpPolicy) -> bytes:
    chunks, size = [], 0
    most = _ANSWER_BYTES if how.most_bytes is None else how.most_bytes
    for chunk in response.stream(1 << 16, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if how.came is not None:
            how.came(len(chunk))
        if size > most:
            raise SearchError(
                f"The answer of {redact(href)} is larger than {most / 1024**2:.3g} MiB.",
                "Expected a few MB.",
                f"{how.wording.check}.",
            )
    return b"".join(chunks)


def _checked_answer(answer: _Answer, href: str, how: HttpPolicy) -> bytes:
    status = answer.status
    if 200 <= status < 300:
        return answer.content
    said = _message(answer.content)
    hint = f"{how.wording.check}."
    if status in (401, 403):
        hint = f"Put user name and password into ~/.netrc, or {how.wording.other}."
    elif status in _TRANSIENT:
        hint = f"Try again later, or {how.wording.other}."
    fault = StatusError(
        f"The {how.wording.noun} at {redact(href)} answered {status}{f' ({said})' if said else ''}.",
        "Expected status 200.",
        hint,
    )
    fault.status = status
    if status in _TRANSIENT:
        raise _TransientError(fault, _retry_after(answer.headers.get("Retry-After")))
    raise fault


def _message(content: bytes) -> str:
    """Return the message of a JSON error answer, or an empty text."""
    try:
        answer = json.loads(content[:20_000])
    except (ValueError, RecursionError):
        return ""
    if not isinstance(answer, dict):
        return ""
    said = next((answer[key] for key in ("description", "detail", "message") if answer.get(key)), "")
    text = " ".join(redact((said if isinstance(said, str) else json.dumps(said))[:1000]).split())
    return text if len(text) <= 200 else text[:199] + "…"


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header gives."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _explained(fault: Exception, href: str, how: HttpPolicy) -> _TransientError:
    """Return a fault of urllib3 in our words: its own text holds the whole URL, and may hold a secret."""
    chain = list(_chain(fault))
    kinds = urllib3.exceptions
    host = urlsplit(href).hostname or href
    retries: int | None = None
    check = how.wording.check
    hint = f"Try again later, or {how.wording.other}."
    if any(isinstance(one, kinds.NameResolutionError | socket.gaierror) for one in chain):
        why, retries = f"the name {host} can't be resolved", _RETRIES_UNKNOWN_HOST
        hint = f"{check}, and the network."
    elif isinstance(fault, kinds.SSLError):
        why, retries = "its certificate can't be verified", 0
        hint = f"{check}, and the certificates of this machine."
    elif any(isinstance(one, ConnectionRefusedError) for one in chain):
        why, hint = "the connection was refused", "Check the URL and its port, or try again later."
    elif isinstance(fault, kinds.TimeoutError) and not isinstance(fault, kinds.NewConnectionError):
        why = f"no answer within {how.timeout_s:g} s"
    elif isinstance(fault, kinds.LocationValueError):
        why, retries, hint = "its URL is malformed", 0, f"{check}."
    else:
        why = "the connection was lost"
    return _TransientError(how.refused(href, f"can't be reached: {why}", hint), retries=retries)


def _chain(fault: BaseException) -> Iterator[BaseException]:
    """Yield a fault and all its causes."""
    waiting, seen = [fault], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting.extend(part for part in inner if isinstance(part, BaseException))
