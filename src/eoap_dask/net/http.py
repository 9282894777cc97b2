"""Asking a catalogue over HTTP: retried, checked where it leads, and bounded in size."""

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
from eoap_dask.net.hrefs import check_href, resolve_href
from eoap_dask.net.signing import origin
from eoap_dask.redact import redact

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_BACKOFF_S = 0.5
_LONGEST_PAUSE_S = 20.0
_LONGEST_WAIT_S = 60.0  # that a Retry-After may ask for
_CONNECT_S = 10.0
# A timeout is for each part of an answer; all of it may take so many times as long.
_WHOLE_ANSWER = 10
# A misspelt host shouldn't take as long to be told as a server that is down for a moment.
_RETRIES_UNKNOWN_HOST = 2
_REDIRECTS = 5
# 1000 items of Sentinel-2 are some 50 MB; an answer without end must not fill the memory.
_ANSWER_BYTES = 512 * 1024**2


@dataclass(frozen=True)
class Wording:
    """How faults speak of what is asked for."""

    noun: str
    """What is at the URL."""
    expected: str
    """What is needed there, as a sentence."""
    check: str
    """What to look at, without a full stop."""
    other: str
    """What to do where trying again is of no use, without a full stop."""


CATALOGUE = Wording(
    "catalogue",
    "A STAC API with item search, a static catalog or a file of items is needed.",
    "Check the URL given with --stac",
    "take another catalogue with --stac",
)


class _TransientError(Exception):
    """A request that may go better next time, with the fault to show when it doesn't."""

    def __init__(self, fault: SearchError, wait_s: float | None = None, retries: int | None = None) -> None:
        super().__init__(fault)
        self.fault = fault
        self.wait_s = wait_s
        self.retries = retries


@dataclass(frozen=True)
class HttpPolicy:
    """How requests are sent: which hosts may be private, how long and how often."""

    private_hosts: frozenset[str]
    timeout_s: float = 30.0
    """Longest wait for an answer."""
    retries: int = 5
    """How often a request is repeated after 429, 5xx, timeouts and lost connections, with growing pauses."""
    wording: Wording = CATALOGUE
    named: str = ""
    """The URL that the user gave. Where it is https, nothing is asked over http; where it is http, its host alone may
    be told a password over http."""

    @property
    def is_encrypted(self) -> bool:
        """Whether everything has to be asked over https."""
        found = origin(self.named)
        return found is not None and found[0] == "https"

    def may_know_password(self, url: str) -> bool:
        """Tell whether a password of ~/.netrc may be sent to a URL, if it holds one for its host.

        Parameters
        ----------
        url
            An http(s) URL.

        Returns
        -------
        bool
            True over https, and for the host that the user named with http.
        """
        found = origin(url)
        return found is not None and (found[0] == "https" or found == origin(self.named))

    most_bytes: int | None = None
    """Longest answer; None is half a GiB."""
    came: Callable[[int], None] | None = None
    """Told how many bytes came, as they come; may raise to end it. Called in several threads."""

    def get(self, url: str, session: Any = None) -> bytes:
        """Return what a URL answers.

        Parameters
        ----------
        url
            An http(s) URL.
        session : requests.Session, optional
            For many requests to one host.

        Returns
        -------
        bytes

        Raises
        ------
        SearchError
            When it can't be had; `StatusError` when an error status was answered.
        HrefError
            When it, or where it redirects, is no place to go to.
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
        """Return the answer to a request of any kind; as `get`.

        Retries through urllib3 leave out POST unless told, never repeat an answer that broke off in
        its body, wait as long as a Retry-After says, and hide the status behind a text.

        Parameters
        ----------
        session : requests.Session
        verb
            Such as POST.
        url
            An http(s) URL.
        headers
            Further headers.
        parameters
            For the body of a POST, or the query of a GET.

        Returns
        -------
        bytes

        Raises
        ------
        SearchError, HrefError
        """
        import tenacity

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
        """Return the fault of an answer that can't be used.

        Parameters
        ----------
        url
            Where it came from.
        why
            What is wrong with it, to follow the URL.
        hint
            What to try; by default to check the URL.
        """
        wording = self.wording
        return SearchError(f"The {wording.noun} at {redact(url)} {why}.", wording.expected, hint or f"{wording.check}.")


def parse_json(content: bytes | str, url: str, how: HttpPolicy) -> dict[str, Any]:
    """Return the JSON object that was answered.

    Parameters
    ----------
    content
        The answer.
    url
        Where it came from.
    how : Asking
        For its wording.

    Returns
    -------
    dict

    Raises
    ------
    SearchError
        When it isn't one.
    """
    text = content if isinstance(content, str) else content.decode("utf-8-sig", "replace")
    try:
        # NaN isn't JSON, but some catalogues write it
        found = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise how.refused(url, f"answered {what_instead(text)} instead of JSON") from None
    if not isinstance(found, dict):
        raise how.refused(url, "holds JSON, but no STAC")
    return found


def what_instead(text: str) -> str:
    """Return what was answered instead of JSON, in words.

    Parameters
    ----------
    text
        The beginning of it.

    Returns
    -------
    str
    """
    return "a web page" if re.match(r"\s*<(!doctype|html)", text, re.I) else "something else"


def check_url(text: str, what: str, option: str, example: str) -> str:
    """Return a URL without blanks and slashes around it; contacts nothing.

    Parameters
    ----------
    text
        What the user gave.
    what
        What it should be the URL of, such as `STAC API`.
    option
        How it was given.
    example
        One that would do.

    Returns
    -------
    str

    Raises
    ------
    UsageError
        When it can't be one.
    """
    text = text.strip()
    expected = f"It must be the http(s) URL of a {what}."
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", text):
        raise UsageError(f"The URL {redact(text)!r} of {option} isn't usable.", expected, f"Try {option} {example}.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"The URL {redact(text)} of {option} carries a user name, a query or a fragment.",
            "It is written into the results, so it must be bare.",
            "Put user name and password into ~/.netrc.",
        )
    return text.rstrip("/")


def _say_retry(state: Any) -> None:
    fault = state.outcome.exception()
    what = fault.fault.what if isinstance(fault, _TransientError) else str(fault)
    logger.info("{} Asking again in {:.0f} s.", what, state.next_action.sleep)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _wait(state: Any) -> float:
    """Return the pause before the next attempt: what the server asked for, else growing and random."""
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
    """Return the body of an answer; redirects keep method and body, which those of requests don't."""
    import requests

    is_encrypted = how.is_encrypted
    for _ in range(_REDIRECTS + 1):
        check_href(href, private_hosts=how.private_hosts)
        scheme = urlsplit(href).scheme.lower()
        if is_encrypted and scheme != "https":
            raise how.refused(href, "would be asked in clear, though what leads to it is encrypted")
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
            raise how.refused(href, "redirects to what is no URL") from None
        if target is None:
            return _checked_answer(response, content, href, how)
        href, parameters = resolve_href(prepared.url or href, target), parameters if "json" in body else None
    raise how.refused(href, "redirects without end")


def _unchanged(request: Any) -> Any:
    """Authenticate in no way."""
    return request


def _exchange(
    session: Any, prepared: Any, href: str, how: HttpPolicy, settings: dict[str, Any]
) -> tuple[Any, str | None, bytes]:
    """Return an answer, where it redirects to, and its body."""
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
                "A page of items is a few MB.",
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
        "An answer with status 200 is needed.",
        hint,
    )
    fault.status = status
    if status in _TRANSIENT:
        raise _TransientError(fault, _retry_after(response.headers.get("Retry-After")))
    raise fault


def _message(content: bytes) -> str:
    """Return what an error answer says, if it says it in JSON."""
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
    """Return the seconds that a Retry-After header asks to wait."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _explained(fault: Exception, href: str, how: HttpPolicy) -> _TransientError:
    """Return a fault of requests in words; its own text holds the whole URL, and may hold a secret."""
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
    """Yield a fault and all that it came from."""
    waiting, seen = [fault], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting.extend(part for part in inner if isinstance(part, BaseException))
