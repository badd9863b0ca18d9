"""The generated stubs of TF Serving's services against one server."""

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

TIMEOUT = 30


class Stubs:
    """The generated stubs against one server; every call has a deadline, so that a hang fails."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def __getattr__(self, rpc):
        method = getattr(self._prediction, rpc, None) or getattr(self._model, rpc)
        return lambda request: method(request, timeout=TIMEOUT)

    def refused(self, rpc, request):
        """Returns code and message of a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            getattr(self, rpc)(request)
        return caught.value.code(), caught.value.details()
