"""Signatures for assets, made right before an asset is opened, because they expire within the hour."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import urllib3

from eoap_dask.errors import HrefError, NetworkSettingError, SigningError, UsageError
from eoap_dask.net.connections import ProxyError, answered
from eoap_dask.net.deadline import within
from eoap_dask.net.hrefs import check_href, private_hosts_of
from eoap_dask.net.resolve import resolve_href
from eoap_dask.redact import SAS_KEYS, redact, show_href

PLANETARY_COMPUTER_HOST = "planetarycomputer.microsoft.com"
TOKEN_REL = "eoap:token"  # noqa: S105  a link relation, no secret
"""Relation of a landing page's link to its token endpoint."""

_BLOB_DOMAIN = ".blob.core.windows.net"
# public assets that planetary_computer leaves unsigned too
_PUBLIC_ACCOUNT = "ai4edatasetspublicassets.blob.core.windows.net"
# presigned URLs of Amazon S3, CloudFront and Google Cloud Storage
_SIGNATURES = frozenset({"x-amz-signature", "x-goog-signature", "signature"})
_PRESIGNED = ("x-amz-", "x-goog-")
_PRESIGNED_KEYS = frozenset({"signature", "expires", "awsaccesskeyid", "googleaccessid", "key-pair-id", "policy"})
_RENEW_BEFORE_S = 60.0
_ATTEMPTS = 4
_TIMEOUT_S = 20.0
_ALL_ATTEMPTS_S = 60.0
_BACKOFF_S = 0.5
_ANSWER_BYTES = 64 * 1024
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class Signer(Protocol):
    """Turns the unsigned href of an item into one that can be opened now. Cheap to pickle."""

    def sign(self, href: str, *, fresh: bool = False) -> str:
        """Return the href with a signature that is valid for at least another minute.

        Parameters
        ----------
        href
            An unsigned href.
        fresh
            Ask for a new signature although a cached one looks valid: for a retry after a 403.

        Returns
        -------
        str
            The signed href; one of another place, or a public one, unchanged.

        Raises
        ------
        SigningError
            When no signature can be obtained.
        """
        ...


@dataclass(frozen=True)
class NoSigner:
    """Leaves hrefs as they are."""

    def sign(self, href: str, *, fresh: bool = False) -> str:  # noqa: ARG002
        """Return the href unchanged."""
        return href


@dataclass(frozen=True)
class PlanetaryComputerSigner:
    """Signs hrefs of Azure blobs through the Planetary Computer, with the cache of `planetary_computer`.

    That library's settings apply: `PC_SDK_SUBSCRIPTION_KEY`, and `PC_SDK_SAS_URL` for another endpoint.
    """

    def sign(self, href: str, *, fresh: bool = False) -> str:
        """Return a blob's href with a new shared-access signature, other hrefs unchanged; may raise `SigningError`."""
        host = (urlsplit(href).hostname or "").lower()
        if not host.endswith(_BLOB_DOMAIN) or host == _PUBLIC_ACCOUNT:
            return href
        href = unsigned(href)
        asked = time.monotonic()
        container = urlsplit(href).path.lstrip("/").partition("/")[0]
        # sas.get_token waits without a timeout and retries for minutes: fill its cache ourselves instead
        from planetary_computer import sas  # here: it takes a while

        with _LOCK:
            settings = sas.Settings.get()
        endpoint = f"{settings.sas_url}/{host.split('.')[0]}/{container}"
        with _alone(endpoint):
            cached = sas.TOKEN_CACHE.get(endpoint)
            stale = fresh and _FETCHED.get(endpoint, -1.0) < asked
            if cached is None or stale or cached.ttl() < _RENEW_BEFORE_S:
                key = settings.subscription_key
                headers = {"Ocp-Apim-Subscription-Key": key} if key else {}
                answer = _fetch_json(endpoint, headers, asked)
                try:
                    sas.TOKEN_CACHE[endpoint] = sas.SASToken(**answer)
                except (TypeError, ValueError):
                    raise _unusable(endpoint) from None
                _FETCHED[endpoint] = time.monotonic()
            # with less than a minute left, sign_url would fetch once more
            if sas.TOKEN_CACHE[endpoint].ttl() < _RENEW_BEFORE_S:
                return f"{href}?{sas.TOKEN_CACHE[endpoint].token}"
            return str(sas.sign_url(href))


@dataclass(frozen=True)
class TokenSigner:
    """Appends a token from an endpoint to the hrefs of the endpoint's own origin."""

    endpoint: str
    """URL that answers `{"token": "sig=…", "expires": "2026-01-01T00:00:00Z"}`."""

    def sign(self, href: str, *, fresh: bool = False) -> str:
        """Return an href of the endpoint's origin with a token, other hrefs unchanged; may raise `SigningError`."""
        if origin(href) != origin(self.endpoint):
            return href
        href = unsigned(href)
        asked = time.monotonic()
        with _alone(self.endpoint):
            token, expires = _TOKENS.get(self.endpoint, ("", 0.0))
            stale = fresh and _FETCHED.get(self.endpoint, -1.0) < asked
            if not token or stale or expires - time.time() < _RENEW_BEFORE_S:
                token, expires = _parse_token(_fetch_json(self.endpoint, {}, asked), self.endpoint)
                _TOKENS[self.endpoint] = (token, expires)
                _FETCHED[self.endpoint] = time.monotonic()
        return f"{href}{'&' if '?' in href else '?'}{token}"


@dataclass(frozen=True)
class SeveralSigners:
    """Signs the assets of several places, each with its own signer."""

    signers: tuple[Signer, ...]
    """One for each place; each leaves the hrefs of the others unchanged."""

    def sign(self, href: str, *, fresh: bool = False) -> str:
        """Return an href as the signer of its place signs it; may raise `SigningError`."""
        for signer in self.signers:
            href = signer.sign(href, fresh=fresh)
        return href


# Per process, not per signer: a signer is unpickled anew for every task. One lock per endpoint: while one thread
# fetches a token, the others would only fetch the same.
_LOCK = threading.Lock()
_ENDPOINTS: dict[str, threading.Lock] = {}
_FAULTS: dict[str, tuple[float, SigningError]] = {}
_TOKENS: dict[str, tuple[str, float]] = {}
_FETCHED: dict[str, float] = {}


@contextmanager
def _alone(endpoint: str) -> Iterator[None]:
    """Lock out the other threads from an endpoint."""
    with _LOCK:
        lock = _ENDPOINTS.setdefault(endpoint, threading.Lock())
    if not lock.acquire(timeout=_ALL_ATTEMPTS_S + 2 * _TIMEOUT_S):
        raise _failed(endpoint, "another request to it is still running")
    try:
        yield
    finally:
        lock.release()


def signer_from(spec: Mapping[str, Any]) -> Signer:
    """Return the signer of a specification, or raise `UsageError`.

    It is `{"kind": "none" | "planetary-computer" | "token", "endpoint": url}`, or for several places
    `{"kind": "several", "of": [spec, …]}`; empty means none.
    """
    kind = spec.get("kind", "none")
    if kind == "none":
        return NoSigner()
    if kind == "planetary-computer":
        return PlanetaryComputerSigner()
    if kind == "token":
        endpoint = str(spec.get("endpoint", ""))
        try:
            return TokenSigner(check_href(endpoint, private_hosts=private_hosts_of(endpoint)))
        except HrefError as fault:
            raise UsageError(
                f"Assets can't be signed through {show_href(endpoint)}.",
                "The token endpoint must be an http(s) URL.",
                fault.what,
            ) from None
    if kind == "several":
        return SeveralSigners(tuple(signer_from(part) for part in spec.get("of", [])))
    raise UsageError(
        f"The kind of signing {redact(kind)!r} isn't known.",
        "Expected none, planetary-computer, token or several.",
        "Search the catalogue again, or correct eoap:signing in the file of items.",
    )


def merged_signing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification that signs the assets of two catalogues as each one's own does.

    Raises `UsageError` when the assets of one place would be signed in two ways.
    """
    parts: list[dict[str, Any]] = []
    for spec in (first, second):
        for part in spec.get("of", []) if spec.get("kind") == "several" else [spec]:
            if part.get("kind", "none") != "none" and dict(part) not in parts:
                parts.append(dict(part))
    endpoints = endpoints_of({"kind": "several", "of": parts})
    origins = [origin(endpoint) for endpoint in endpoints]
    if len(set(origins)) < len(origins):
        raise UsageError(
            f"Assets of one place would be signed in two ways, through {' and '.join(map(redact, endpoints))}.",
            "Expected one way of signing for each place.",
            "Take both sets of items from the same catalogue.",
        )
    if len(parts) > 1:
        return {"kind": "several", "of": parts}
    return parts[0] if parts else {"kind": "none"}


def endpoints_of(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the URLs of a specification's token endpoints."""
    own = (str(spec["endpoint"]),) if "endpoint" in spec else ()
    return own + tuple(endpoint for part in spec.get("of", []) for endpoint in endpoints_of(part))


def detect_signing(
    stac_url: str,
    landing_page_links: Iterable[Mapping[str, Any]] = (),
    features: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the specification for `signer_from` of a catalogue's assets.

    A landing page's `eoap:token` link must have the API's own origin. `stac_url` is empty for a file of items, whose
    `features` show by their own links where they come from.
    """
    if _host(stac_url) == PLANETARY_COMPUTER_HOST:
        return {"kind": "planetary-computer"}
    if not stac_url and any(_is_planetary_computer(feature) for feature in features):
        return {"kind": "planetary-computer"}
    for link in landing_page_links:
        if isinstance(link, Mapping) and link.get("rel") == TOKEN_REL and isinstance(link.get("href"), str):
            endpoint = resolve_href(stac_url.rstrip("/") + "/", link["href"])
            if origin(endpoint) is not None and origin(endpoint) == origin(stac_url):
                return {"kind": "token", "endpoint": endpoint}
    return {"kind": "none"}


def _is_planetary_computer(feature: Mapping[str, Any]) -> bool:
    links = feature.get("links")
    assets = feature.get("assets")
    if not isinstance(links, list) or not isinstance(assets, Mapping):
        return False
    from_there = any(
        isinstance(link, Mapping)
        and link.get("rel") in ("root", "self", "collection")
        and _host(str(link.get("href"))) == PLANETARY_COMPUTER_HOST
        for link in links
    )
    return from_there and any(
        isinstance(asset, Mapping) and _host(str(asset.get("href"))).endswith(_BLOB_DOMAIN) for asset in assets.values()
    )


def unsigned(href: str) -> str:
    """Return an href without the query parameters of a signature (Azure, Amazon, Google); others stay."""
    try:
        parts = urlsplit(href)
    except ValueError:
        return href
    pairs = [(pair, pair.partition("=")[0].lower()) for pair in parts.query.split("&")]
    names = {name for _, name in pairs}
    if "sig" in names:
        kept = [pair for pair, name in pairs if name not in SAS_KEYS]
    elif names & _SIGNATURES:
        kept = [pair for pair, name in pairs if name not in _PRESIGNED_KEYS and not name.startswith(_PRESIGNED)]
    else:
        return href
    return urlunsplit(parts._replace(query="&".join(kept)))


def origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an http(s) URL; None for anything else."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            return None
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    return parts.scheme, parts.hostname.rstrip("."), port


def _host(url: str) -> str:
    found = origin(url)
    return found[1] if found else ""


def _parse_token(answer: Mapping[str, Any], endpoint: str) -> tuple[str, float]:
    """Return the token and the time at which it expires, in seconds since the epoch."""
    token, expires = answer.get("token"), answer.get("expires")
    if not isinstance(token, str) or not isinstance(expires, str):
        raise _unusable(endpoint)
    token = token.lstrip("?&")
    if not re.fullmatch(r"[\x21-\x7e]+", token) or "#" in token:
        raise _unusable(endpoint)
    try:
        moment = datetime.fromisoformat(expires)
    except ValueError:
        raise _unusable(endpoint) from None
    return token, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _unusable(endpoint: str) -> SigningError:
    return SigningError(
        f"The answer of {redact(endpoint)} has no token.",
        "Expected a token and the time at which it expires.",
        "Try again later, or check the endpoint.",
    )


class _TransientError(Exception):
    """A fault that may pass."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def _fetch_json(url: str, headers: Mapping[str, str], asked: float) -> dict[str, Any]:
    """Return the JSON object behind a URL, tried a few times; no fault carries more than the bare URL.

    Callers that asked (`time.monotonic`) before another caller's attempts failed get its fault, and don't try again.
    """
    failed = _FAULTS.get(url)
    if failed is not None and failed[0] >= asked:
        raise SigningError(failed[1].what, failed[1].expected, failed[1].hint)
    try:
        return _fetch_often(url, headers)
    except SigningError as fault:
        _FAULTS[url] = (time.monotonic(), fault)
        raise


def _fetch_often(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    import tenacity

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_TransientError),
        stop=tenacity.stop_any(tenacity.stop_after_attempt(_ATTEMPTS), tenacity.stop_before_delay(_ALL_ATTEMPTS_S)),
        wait=tenacity.wait_random_exponential(multiplier=_BACKOFF_S, max=20),
        reraise=True,
    )
    try:
        answer = attempts(_fetch_once, url, headers)
    except _TransientError as fault:
        times = attempts.statistics["attempt_number"]
        raise _failed(url, f"{fault.why}, {times} times" if times > 1 else fault.why) from None
    if not isinstance(answer, dict):
        raise _unusable(url)
    return answer


def _fetch_once(url: str, headers: Mapping[str, str]) -> object:
    # only one's own network may see a login over http
    hosts = private_hosts_of(url)

    def ask() -> tuple[int, bytes]:
        timeout = urllib3.Timeout(connect=_TIMEOUT_S, read=_TIMEOUT_S)
        with answered("GET", url, headers=headers, private_hosts=hosts, timeout=timeout) as response:
            return response.status, b"".join(_bounded(response.stream(8192, decode_content=True)))

    fault: Exception
    try:
        # a socket's timeout is for each byte; all workers' threads may be waiting here
        status, body = within(_TIMEOUT_S, ask)
    except urllib3.exceptions.NewConnectionError:  # a timeout by its class
        fault = _TransientError("it can't be reached")
    except (urllib3.exceptions.TimeoutError, TimeoutError):
        fault = _TransientError(f"it didn't answer within {_TIMEOUT_S:g} s")
    except ProxyError as error:
        fault = _failed(url, error.why, error.hint) if error.is_final else _TransientError(error.why)
    except (HrefError, NetworkSettingError) as error:
        fault = SigningError(
            f"Assets couldn't be signed through {redact(url)}. {error.what}", error.expected, error.hint
        )
    except urllib3.exceptions.HTTPError as error:
        # its text may hold the URL with its query
        fault = _TransientError(f"it can't be reached ({type(error).__name__})")
    else:
        if status in _TRANSIENT:
            raise _TransientError(f"it answered {status}")
        if status != 200:
            raise _failed(url, f"it answered {status}")
        try:
            return json.loads(body)
        except ValueError:
            raise _unusable(url) from None
    raise fault  # without a context


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    left = _ANSWER_BYTES
    for chunk in chunks:
        yield chunk
        left -= len(chunk)
        if left < 0:
            return


def _failed(url: str, why: str, hint: str = "") -> SigningError:
    return SigningError(
        f"Assets couldn't be signed through {redact(url)}: {why}.",
        "Without a signature they can't be read.",
        hint or "Try again later.",
    )
