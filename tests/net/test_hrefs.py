import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.errors import HrefError
from eoap_dask.net import hrefs as trust
from eoap_dask.net.hrefs import check_href, host_is_private, private_hosts_of

SECRET = "hunter2SECRET"
NAMES = {
    "inside.example.org": "10.1.2.3",
    "meta.example.org": "169.254.169.254",
    "six.example.org": "fd12::1",
    "shared.example.org": "100.64.3.4",
    "cdn.example.org": "93.184.216.34",
}


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """Names resolve as the table says, and not at all otherwise."""

    def look_up(host, *args, **kwargs):
        if host in NAMES:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (NAMES[host], 0))]
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    trust._resolve.cache_clear()
    yield
    trust._resolve.cache_clear()


@pytest.mark.parametrize(
    "href",
    [
        "https://sentinel-cogs.s3.us-west-2.amazonaws.com/sentinel-s2-l2a-cogs/10/T/FK/2021/7/x/B04.tif",
        "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/06/V/a.tif?sig=abc&se=2026",
        "http://cdn.example.org:8080/a%20b/c..d/x.tif",
        "https://does-not-resolve.example.org/x.tif",
        "https://8.8.8.8/x.tif",
        "https://[2606:4700::1111]/x.tif",
        "HTTPS://Example.ORG/x?redirect=../y",
        "https://example.org/ü.tif",
    ],
)
def test_public_hrefs_pass_unchanged(href):
    assert check_href(href) == href


@pytest.mark.parametrize(
    ("href", "why"),
    [
        ("", "is empty"),
        ("file:///etc/passwd", "the scheme 'file'"),
        ("FILE:///etc/passwd", "the scheme 'file'"),
        ("/etc/passwd", "is a path, not a URL"),
        ("./a.tif", "is a path, not a URL"),
        ("a.tif", "is a path, not a URL"),
        ("C:/a.tif", "the scheme 'c'"),
        ("/vsicurl/https://example.org/x", "GDAL's virtual file systems"),
        ("/vsizip/x", "GDAL's virtual file systems"),
        ("/VSIMEM/x", "GDAL's virtual file systems"),
        ("zip+https://example.org/x.zip!y", "the scheme 'zip+https'"),
        ("ftp://example.org/x", "the scheme 'ftp'"),
        ("s3://bucket/key", "the scheme 's3'"),
        ("data:image/tiff;base64,AAAA", "the scheme 'data'"),
        ("https:/example.org/x", "the scheme 'https'"),
        ("https:///x", "no valid host"),
        ("https://:80/x", "no valid host"),
        ("https://./x", "no valid host"),
        ("https://%31%32%37.0.0.1/x", "no valid host"),
        ("https://[fe80::1%25eth0]/x", "no valid host"),
        ("https://[::1/x", "malformed host"),
        ("https://example.org:99999/x", "malformed host or port"),
        ("https://u:p@example.org/x", "user name or password"),
        ("https://example.org/../x", "climbs"),
        ("https://example.org/a/..", "climbs"),
        ("https://example.org/a/%2e%2E/x", "climbs"),
        ("https://example.org/a/%252e%252e%252fx", "climbs"),
        ("https://example.org/a%2f..%2fx", "climbs"),
        ("https://example.org/" + "%25" * 1 + "25" * 20 + "41", "too often"),
        ("https://example.org\\@127.0.0.1/x", "backslash"),
        ("https://example.org/a%5cb", "encoded control characters or backslashes"),
        ("https://example.org/a%00b", "encoded control characters"),
        ("https://example.org/a%0d%0aHost:x", "encoded control characters"),
        ("https://example.org/a b", "blanks or control"),
        (" https://example.org/a", "blanks or control"),
        ("https://example.org/a\nb", "blanks or control"),
        ("https://example.org/a\u200bb", "blanks or control"),
        ("https://example.org/a\u202eb", "blanks or control"),
    ],
)
def test_what_is_no_plain_url_is_refused(href, why):
    with pytest.raises(HrefError) as caught:
        check_href(href, private_hosts=frozenset({"localhost", "127.0.0.1"}))
    assert why in caught.value.what


PRIVATE = [
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "db.internal",
    "printer.local",
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0177.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "127。0。0。1",
    "１２７.0.0.1",
    "ⓛocalhost",
    "0.0.0.0",  # noqa: S104
    "[::]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[fd00::1]",
    "[ff02::1]",
    "inside.example.org",
    "six.example.org",
    "shared.example.org",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_hosts_are_refused(host):
    assert host_is_private(host)
    with pytest.raises(HrefError, match=r"leads to the private host|malformed host"):
        check_href(f"http://{host}:8080/x.tif")


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.2",
        "2852039166",
        "0xa9fea9fe",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "metadata.google.internal",
        "metadata.google.internal.",
        "meta.example.org",
    ],
)
def test_metadata_services_are_refused_even_from_their_neighbour(host):
    assert host_is_private(host)
    allowed = frozenset({host, host.strip("[]."), "169.254.169.254", "metadata.google.internal"})
    with pytest.raises(HrefError, match="link-local address or a metadata service"):
        check_href(f"http://{host}/latest/", private_hosts=allowed)


def test_the_host_of_a_private_catalogue_is_allowed():
    assert private_hosts_of("http://127.0.0.1:9000/stac") == {"127.0.0.1"}
    assert private_hosts_of("http://Inside.example.org/stac") == {"inside.example.org", "10.1.2.3"}
    assert private_hosts_of("http://[::1]:80/") == {"::1"}
    assert private_hosts_of("https://cdn.example.org/") == frozenset()
    assert private_hosts_of("/a/b.json") == frozenset()
    assert private_hosts_of("http://[::1/") == frozenset()
    assert "169.254.169.254" not in private_hosts_of("http://meta.example.org/")

    hosts = private_hosts_of("http://127.0.0.1:9000/stac")
    assert check_href("http://127.0.0.1:9001/x.tif", private_hosts=hosts)
    assert check_href("http://2130706433/x.tif", private_hosts=hosts)
    with pytest.raises(HrefError):
        check_href("http://127.0.0.2/x.tif", private_hosts=hosts)
    hosts = private_hosts_of("http://inside.example.org/")
    assert check_href("http://10.1.2.3/x.tif", private_hosts=hosts)


def test_a_name_that_hangs_is_let_pass_in_time(monkeypatch):
    import time

    monkeypatch.setattr(trust, "_RESOLVE_S", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(0.5) or [])
    assert not host_is_private("slow.example.org")


@given(st.text(max_size=60))
def test_check_href_raises_nothing_else(text):
    for href in (text, f"https://{text}", f"https://example.org/{text}"):
        try:
            assert check_href(href) == href
        except HrefError as fault:
            assert len(str(fault)) < 600  # noqa: PT017
            assert not re.search(r"[\x00-\x1f]", str(fault))  # noqa: PT017
