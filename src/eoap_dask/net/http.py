"""HTTP requests to a catalogue: retried, with checked addresses and bounded answers."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from loguru import logger

from eoap_dask.errors import SearchError, StatusError, UsageError
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
    """URL that the user gave. If it is https, no request goes over http; if it is http, only its host may get a
    password over http."""

    @property
    def is_encrypted(self) -> bool:
        """Whether every request must go over https."""
        found = origin(self.named)
        return found is not None and found[0] == "https"

    def may_know_password(self, url: str) -> bool:
        """Tell whether a password of ~/.netrc may go to a URL: over https, or to the origin that the user gave."""
        found = origin(url)
        return found is not None and (found[0] == "https" or found == origin(self.named))

    most_bytes: int | None = None
    """Longest answer; None means 512 MiB."""
    came: Callable[[int], None] | None = None
    """Receives the number of bytes of each part, in several threads; may raise to end the transfer."""

    def get(self, url: str, session: Any = None) -> bytes:
        """Return the body behind a URL, or raise `SearchError` (`StatusError` for an error status) or `HrefError`.

        A requests.Session serves many requests to one host.
        """
        import requests

        if session is not None:
            return self.send(session, "GET", url)
        with requests.Session() as own:
            return self.send(own, "GET", url)

    def send(
        self,
        session: Any,
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
            return attempts(_send, session, self, verb, url, headers, parameters)
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
    session: Any,
    how: HttpPolicy,
    verb: str,
    href: str,
    headers: dict[str, str] | None,
    parameters: dict[str, Any] | None,
) -> bytes:
    """Return the body of an answer; redirects keep method and body, which requests changes."""
    import requests

    is_encrypted = how.is_encrypted
    for _ in range(_REDIRECTS + 1):
        check_href(href, private_hosts=how.private_hosts)
        scheme = urlsplit(href).scheme.lower()
        if is_encrypted and scheme != "https":
            raise how.refused(href, "would be read over http, though what leads to it is https")
        is_encrypted = is_encrypted or scheme == "https"
        body = {"json": parameters} if verb in ("POST", "PUT", "PATCH") else {"params": parameters or {}}
        # requests would look into ~/.netrc by the host alone
        auth = None if how.may_know_password(href) else _unchanged
        try:
            prepared = session.prepare_request(requests.Request(verb, href, headers=headers, auth=auth, **body))
            settings = session.merge_environment_settings(prepared.url, {}, True, None, None)
            settings["stream"] = True
            exchange = partial(_exchange, session, prepared, href, how, settings)
            response, target, content = within(_WHOLE_ANSWER * how.timeout_s, exchange)
        except TimeoutError:
            why = f"can't be reached: its answer didn't end within {_WHOLE_ANSWER * how.timeout_s:g} s"
            hint = f"Try again later, or {how.wording.other}."
            raise _TransientError(how.refused(href, why, hint), retries=1) from None
        except requests.RequestException as fault:
            raise _explained(fault, href, how) from None
        except ValueError:  # requests looks at where a redirect leads, whether it is to be followed or not
            raise how.refused(href, "redirects to something that isn't a URL") from None
        if target is None:
            return _checked_answer(response, content, href, how)
        href, parameters = resolve_href(prepared.url or href, target), parameters if "json" in body else None
    raise how.refused(href, f"redirects more than {_REDIRECTS} times")


def _unchanged(request: Any) -> Any:
    """Leave a request without authentication."""
    return request


def _exchange(
    session: Any, prepared: Any, href: str, how: HttpPolicy, settings: dict[str, Any]
) -> tuple[Any, str | None, bytes]:
    """Return an answer, the target of its redirect, and its body."""
    timeout = (min(_CONNECT_S, how.timeout_s), how.timeout_s)
    with session.send(prepared, timeout=timeout, allow_redirects=False, **settings) as response:
        target = response.headers.get("Location") if response.is_redirect else None
        return response, target, b"" if target else _read(response, href, how)


def _read(response: Any, href: str, how: HttpPolicy) -> bytes:
    chunks, size = [], 0
    most = _ANSWER_BYTES if how.most_bytes is None else how.most_bytes
    for chunk in response.iter_content(1 << 16):
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


def _checked_answer(response: Any, content: bytes, href: str, how: HttpPolicy) -> bytes:
    status = int(response.status_code)
    if 200 <= status < 300:
        return content
    said = _message(content)
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
        raise _TransientError(fault, _retry_after(response.headers.get("Retry-After")))
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
    text = " ".join(redact(said if isinstance(said, str) else json.dumps(said)).split())
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
    """Return a fault of requests in our words: its own text holds the whole URL, and may hold a secret."""
    import requests

    chain = list(_chain(fault))
    names = {type(one).__name__ for one in chain}
    host = urlsplit(href).hostname or href
    retries: int | None = None
    check = how.wording.check
    hint = f"Try again later, or {how.wording.other}."
    if "NameResolutionError" in names or "gaierror" in names:
        why, retries = f"the name {host} can't be resolved", _RETRIES_UNKNOWN_HOST
        hint = f"{check}, and the network."
    elif isinstance(fault, requests.exceptions.SSLError):
        why, retries = "its certificate can't be verified", 0
        hint = f"{check}, and the certificates of this machine."
    elif isinstance(fault, requests.exceptions.ProxyError):
        why, hint = "the proxy can't be reached", "Check HTTPS_PROXY."
    elif isinstance(fault, requests.Timeout) or names & {"ReadTimeoutError", "ConnectTimeoutError"}:
        why = f"no answer within {how.timeout_s:g} s"
    elif any(isinstance(one, ConnectionRefusedError) for one in chain):
        why, hint = "the connection was refused", "Check the URL and its port, or try again later."
    elif isinstance(fault, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
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
