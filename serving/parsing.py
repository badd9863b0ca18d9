"""Requests that cannot be parsed: INVALID_ARGUMENT, where gRPC for Python would answer INTERNAL."""

import functools
from collections.abc import Callable

import grpc
from google.protobuf.message import DecodeError, Message

Handle = Callable[[Message, grpc.ServicerContext], Message]


class ParsingInterceptor(grpc.ServerInterceptor):
    """Answers INVALID_ARGUMENT to requests that cannot be parsed, for every unary method of a server."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Returns the handler of a method, changed to accept any bytes and to refuse those that are no message."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _refuse_unparsed(handler.unary_unary),
            _parse_or_return_error(handler.request_deserializer),
            handler.response_serializer,
        )


def _parse_or_return_error(parse: Callable[[bytes], Message]) -> Callable[[bytes], Message | DecodeError]:
    # gRPC itself answers an error that the parser raises, so the parser must not raise: the handler chooses the status.
    def attempt(content: bytes) -> Message | DecodeError:
        try:
            return parse(content)
        except DecodeError as error:
            return error

    return attempt


def _refuse_unparsed(handle: Handle) -> Callable[[Message | DecodeError, grpc.ServicerContext], Message]:
    @functools.wraps(handle)  # with its attributes, from which gRPC takes the threads to run it on
    def check(request: Message | DecodeError, context: grpc.ServicerContext) -> Message:
        if isinstance(request, DecodeError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The request cannot be parsed: {request}")
        return handle(request, context)

    return check
