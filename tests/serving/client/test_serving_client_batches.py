"""Many users in one call: concurrent parts, answers in order, and the rows of a failed request."""

import asyncio
import threading

import grpc
import numpy as np
import pytest
from scripted_server import WAIT, Script, echo, histories_of, served, until_cancelled

from serving import tensors
from serving.client import AsyncRetrievalClient, RetrievalClient, RetrievalError
from tfdnc.contracts import bundle

USERS = [[f"u{user}"] * (user % 3 + 1) for user in range(10)]


def test_parts_of_at_most_batch_size_rows_answered_in_order(ask):
    script = Script(echo)
    with served(script) as target:
        answers = ask(target, "retrieve", USERS, list(range(1, 11)), 0.5, client={"batch_size": 4})
        encoding = ask(target, "encode", USERS, client={"batch_size": 4})
    assert [answer.item_ids for answer in answers] == [[f"u{user}"] for user in range(10)]
    np.testing.assert_array_equal(encoding.intent, [[len(history)] for history in USERS])
    assert encoding.user_embeddings.shape == (10, 1, 2)
    by_first = {histories_of(request)[0][0]: request for request in script.requests[:3]}
    assert [list(by_first[first].inputs["num_candidates"].int_val) for first in ("u0", "u4", "u8")] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10],
    ]
    assert {request.model_spec.signature_name for request in script.requests[:3]} == {"retrieve"}


def test_no_input_of_a_part_has_more_columns_than_its_histories(ask):
    """Times kept the columns of the longest history of the call, and a bundle refused the parts with shorter ones."""
    script = Script(*[echo] * 2)
    with served(script) as target:
        times = [[1, 2, 3], [4]]
        ask(
            target, "retrieve", [["a", "b", "c"], ["d"]], times=times, request_time=9,
            client={"batch_size": 1, "max_in_flight": 1},
        )  # fmt: skip
    sent = [tensors.decode(request.inputs[bundle.HISTORY_TIMES]).tolist() for request in script.requests]
    assert sent == [[[-1, 1, 2, 3]], [[-1, 4]]]  # the first column stands before every history


def test_a_part_is_not_padded_for_the_longest_history_elsewhere(ask):
    script = Script(echo)
    with served(script) as target:
        ask(target, "retrieve", [["a"] * 50, [], ["b", "c"]], client={"batch_size": 1, "max_in_flight": 1})
    assert [len(histories_of(request)[0]) for request in script.requests] == [50, 0, 2]


def test_max_in_flight_requests_at_a_time(ask):
    all_here = threading.Barrier(3, timeout=WAIT)  # breaks unless three are answered at the same time
    lock, under_way, most = threading.Lock(), 0, 0

    def line(request, context):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        all_here.wait()
        with lock:
            under_way -= 1
        return echo(request)

    with served(Script(line)) as target:
        ask(target, "retrieve", USERS[:9], client={"batch_size": 1, "max_in_flight": 3, "timeout": WAIT})
    assert most == 3


@pytest.fixture
def second_fails():
    """A script that answers u0, refuses u3 and holds the others until they are cancelled, and the event of that."""
    arrived, cancelled = threading.Event(), threading.Event()
    hold = until_cancelled(cancelled, arrived)

    def refuse(request, context):
        arrived.wait(WAIT)  # else what is cancelled may never have been sent
        return grpc.StatusCode.INVALID_ARGUMENT

    def line(request, context):
        return {"u0": echo, "u3": refuse}.get(histories_of(request)[0][0], hold)(request, context)

    return Script(line), cancelled


PARTS = {"batch_size": 3, "timeout": 2 * WAIT}


def test_one_failure_names_its_rows_and_cancels_the_rest(second_fails):
    script, cancelled = second_fails
    with served(script) as target, RetrievalClient(target, **PARTS) as client:
        with pytest.raises(RetrievalError) as caught:
            client.retrieve(USERS)
        assert cancelled.wait(WAIT)  # before the connection closes
    assert caught.value.rows == range(3, 6)
    assert str(caught.value) == "INVALID_ARGUMENT (histories 3 to 5): as scripted"


def test_one_failure_with_asyncio(second_fails):
    script, cancelled = second_fails

    async def fail(target):
        async with AsyncRetrievalClient(target, **PARTS) as client:
            with pytest.raises(RetrievalError) as caught:
                await client.retrieve(USERS)
            assert await asyncio.to_thread(cancelled.wait, WAIT)
        assert caught.value.rows == range(3, 6)

    with served(script) as target:
        asyncio.run(fail(target))


def test_arguments_are_checked_before_anything_is_sent(ask):
    script = Script(echo)
    with served(script) as target, pytest.raises(ValueError, match="one num_candidates or 10"):
        ask(target, "retrieve", USERS, [1] * 11, client={"batch_size": 1})
    assert not script.requests


def test_settings_that_contradict():
    with pytest.raises(ValueError, match="batch_size and max_in_flight from 1 up"):
        RetrievalClient(batch_size=0)
    with pytest.raises(ValueError, match="a version or a label"):
        RetrievalClient(version=1, label="stable")


def test_parts_from_the_embedded_server_are_the_whole(bundle_server):
    with RetrievalClient(bundle_server.address) as whole, RetrievalClient(bundle_server.address, batch_size=3) as parts:
        for once, split in zip(whole.retrieve(USERS, 2, 0.5), parts.retrieve(USERS, 2, 0.5), strict=True):
            assert once.item_ids == split.item_ids
            np.testing.assert_array_equal(once.intent, split.intent)
        np.testing.assert_array_equal(whole.encode(USERS).user_embeddings, parts.encode(USERS).user_embeddings)
