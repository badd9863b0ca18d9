"""Models saved once per session, and servers over them."""

import asyncio
import contextlib
import gc

import pytest
import serving_models
from serving_models import save_fake_bundle, save_half_plus_two
from stubs import Stubs

from serving import server as embedded
from serving.client import AsyncRetrievalClient, RetrievalClient


@pytest.fixture(scope="module", autouse=True)
def _cheap_collections():
    """As a server does: every unload collects garbage, which need not look at all that a test suite has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def connect():
    """Makes `Stubs` for an address, and closes their channels after the test."""
    with contextlib.ExitStack() as stack:

        def connect(address):
            stubs = Stubs(address)
            stack.callback(stubs.channel.close)
            return stubs

        yield connect


@pytest.fixture(scope="session")
def half_plus_two(tmp_path_factory):
    """Base path with two versions; version 2 adds 20."""
    base = tmp_path_factory.mktemp("models") / "half"
    save_half_plus_two(base / "1", offset=2.0)
    save_half_plus_two(base / "2", offset=20.0)
    return base


@pytest.fixture(scope="session")
def fake_bundle(tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "bundle"
    save_fake_bundle(base / "7")
    return base


@pytest.fixture(scope="session")
def half_server(half_plus_two):
    """Serves both versions, so that they can be chosen."""
    config = half_plus_two.parent / "models.config"
    config.write_text(serving_models.models_config(half=(half_plus_two, "model_version_policy { all {} }")))
    with embedded.running(model_config_file=config, max_message_bytes=1 << 20) as server:
        yield server


@pytest.fixture(scope="session")
def bundle_server(fake_bundle):
    with embedded.running(fake_bundle) as server:
        yield server


@pytest.fixture(scope="session")
def stubs(half_server):
    stubs = Stubs(half_server.address)
    yield stubs
    stubs.channel.close()


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request):
    """Calls a method of a client, of either kind: (target, method, *arguments, client=settings, **options)."""
    return _blocking if request.param == "blocking" else _asynchronous


def _blocking(target, method, *arguments, client=None, **options):
    with RetrievalClient(target, **(client or {})) as connected:
        return getattr(connected, method)(*arguments, **options)


def _asynchronous(target, method, *arguments, client=None, **options):
    async def call():
        async with AsyncRetrievalClient(target, **(client or {})) as connected:
            return await getattr(connected, method)(*arguments, **options)

    return asyncio.run(call())
