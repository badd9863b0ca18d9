"""Encrypted connections, with certificates made for the test."""

import asyncio

import grpc
import pytest
import trustme
from scripted_server import Script, echo, served

from serving.client import AsyncRetrievalClient, RetrievalClient, RetrievalError, Retry, Tls
from tfdnc.contracts.errors import UserError

ONCE = Retry(attempts=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """PEM files: the authority, and a client's key and certificate; and what a server needs."""
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "roots.pem")
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    client = authority.issue_cert("client.example")
    client.private_key_pem.write_to_path(folder / "client.key")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    server = authority.issue_cert("localhost")
    pair = (server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())
    return folder, pair, authority.cert_pem.bytes()


def test_a_server_with_a_certificate(files):
    folder, pair, _ = files
    with served(Script(echo), credentials=grpc.ssl_server_credentials([pair])) as target:
        with RetrievalClient(target, tls=Tls(folder / "roots.pem")) as client:
            assert client.retrieve([["a"]])[0].item_ids == ["a"]
        for tls in (None, Tls(), Tls(folder / "stranger.pem")):
            with RetrievalClient(target, tls=tls, retry=ONCE) as client, pytest.raises(RetrievalError) as caught:
                client.retrieve([["a"]])
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_server_that_asks_for_ours(files):
    folder, pair, roots = files
    mutual = Tls(folder / "roots.pem", folder / "client.key", folder / "client.pem")

    async def ask(target):
        async with AsyncRetrievalClient(target, tls=mutual) as client:
            return await client.retrieve([["a"]])

    credentials = grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=True)
    with served(Script(echo), credentials=credentials) as target:
        with RetrievalClient(target, tls=mutual) as client:
            assert client.retrieve([["a"]])[0].item_ids == ["a"]
        assert asyncio.run(ask(target))[0].item_ids == ["a"]
        anonymous = RetrievalClient(target, tls=Tls(folder / "roots.pem"), retry=ONCE)
        with anonymous as client, pytest.raises(RetrievalError) as caught:
            client.retrieve([["a"]])
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"Expected a PEM file at .*roots.pem \(No such file"):
        RetrievalClient(tls=Tls(tmp_path / "roots.pem"))
    with pytest.raises(UserError, match="a client key and its certificate"):
        Tls(client_key=tmp_path / "client.key")
