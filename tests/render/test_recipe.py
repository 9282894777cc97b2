"""What travels to the workers: no credentials, which each worker has from its own environment, or asks a server for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import imagecodecs
import pytest
from planetary_computer import sas

from eoap_dask import ItemSet, MosaicParams, RunOptions
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION, find_items, understand
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import HrefError, UsageError
from eoap_dask.net import signing
from eoap_dask.net.signing import PlanetaryComputerSigner, TokenSigner
from eoap_dask.render.block import _unpack
from eoap_dask.render.recipe import Recipe

BLOB = "https://account.blob.core.windows.net/container/B04.tif"
SECRETS = {
    name: f"canary-of-{name.lower().replace('_', '-')}"
    for name in (
        "PC_SDK_SUBSCRIPTION_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_CONNECTION_STRING",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GDAL_HTTP_USERPWD",
        "JUPYTERHUB_API_TOKEN",
    )
}


@pytest.fixture
def signed(archive: Archive) -> Iterator[DemoServer]:
    with DemoServer(archive, sign=True) as running:
        yield running


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set in the environment, in ~/.netrc, and in the cache of the Planetary Computer's library."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary-of-a-login password canary-of-a-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    settings = sas.Settings.get()
    monkeypatch.setattr(settings, "subscription_key", SECRETS["PC_SDK_SUBSCRIPTION_KEY"])
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    token = sas.SASToken(**{"msft:expiry": in_an_hour, "token": "sig=canary-of-a-container"})
    monkeypatch.setitem(sas.TOKEN_CACHE, f"{settings.sas_url}/account/container", token)


def request_for(server: DemoServer, **more: str) -> MosaicParams:
    return MosaicParams(stac=server.url, collection=server.collection, bands=("red",), resolution=400.0, **more)


def recipes(params: MosaicParams, items: ItemSet | None = None, reader: str = "auto") -> list[Recipe]:
    request = understand(params)
    plan = APPLICATION.plan_for(request, items or find_items(request), RunOptions(reader=reader, workers=1))
    return [unit.work.recipe for unit in plan.units]


def content(recipe: Recipe) -> bytes:
    """All that is sent, before it is compressed."""
    return bytes(imagecodecs.lzma_decode(recipe.pack()))


@pytest.mark.parametrize("reader", ["auto", "gdal"])
def test_a_recipe_has_no_credentials(signed: DemoServer, secrets: None, reader: str) -> None:
    """Though this process has them all, and has signed hrefs in both ways before."""
    params = request_for(signed)
    items = find_items(understand(params))
    both = replace(items, signing={"kind": "several", "of": [items.signing, {"kind": "planetary-computer"}]})
    signer = both.signer(both.private_hosts())
    hrefs = [item["assets"]["B04"]["href"] for item in items]
    assert "sig=canary-of-a-container" in signer.sign(BLOB)
    token = signer.sign(hrefs[0]).partition("?")[2]
    assert token.startswith("sig=")
    assert signing._TOKENS[items.signing["endpoint"]][0] == token
    made = recipes(params, both, reader)
    assert len(made) == 3
    for recipe in made:
        text = content(recipe)
        assert any(asset.encode() in text for asset in hrefs)  # it is what is sent
        assert b"canary" not in text
        assert token.partition("-")[2].encode() not in text
        assert b"sig=" not in text
        signers = _unpack(recipe.pack()).stack.reader.signer.signers
        assert [vars(one) for one in signers] == [{"endpoint": items.signing["endpoint"]}, {}]
        assert [type(one) for one in signers] == [TokenSigner, PlanetaryComputerSigner]


def test_hrefs_that_came_signed_lose_that_where_it_can_be_renewed(
    signed: DemoServer, secrets: None, tmp_path: Path
) -> None:
    params = request_for(signed)
    items = find_items(understand(params))
    features = json.loads(json.dumps(items.features))
    for feature in features:
        for asset in feature["assets"].values():
            asset["href"] += "?sig=canary-of-a-signature&se=2030-01-01"
    document = {"type": "FeatureCollection", "eoap:signing": items.signing, "eoap:stac": signed.url}
    file = tmp_path / "items.json"
    file.write_text(json.dumps({**document, "features": features}))
    for recipe in recipes(replace(params, items=str(file))):
        assert b"canary" not in content(recipe)


@pytest.mark.parametrize("option", ["stac", "items"])
def test_passwords_in_urls_of_the_user_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=r"contains a user name.*netrc") as caught:
        understand(MosaicParams(**{option: "https://user:canary@127.0.0.1/stac"}))
    assert "canary" not in str(caught.value)


def test_passwords_in_hrefs_of_items_are_refused(signed: DemoServer, tmp_path: Path) -> None:
    params = request_for(signed)
    features = json.loads(json.dumps(find_items(understand(params)).features))
    for feature in features:
        for asset in feature["assets"].values():
            asset["href"] = asset["href"].replace("://", "://user:canary@")
    file = tmp_path / "items.json"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(HrefError, match="user name or password") as caught:
        recipes(replace(params, items=str(file)))
    assert "canary" not in str(caught.value)
