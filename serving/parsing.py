"""Requests whose bytes are no message: refused as the caller's mistake, where gRPC for Python says INTERNAL."""

import functools
from collections.abc import Callable

import grpc
from google.protobuf.message import DecodeError


class ParsingInterceptor(grpc.ServerInterceptor):
    """Answers INVALID_ARGUMENT to what cannot be parsed, on every method of a server that takes one message."""

    def intercept_service(self, continuation: Callable, handler_call_details: grpc.HandlerCallDetails):
        """Returns the method's handler, with its parser and what comes after it made to expect any bytes."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _refuse_unparsed(handler.unary_unary),
            _parse_or_return_error(handler.request_deserializer),
            handler.response_serializer,
        )


def _parse_or_return_error(parse: Callable) -> Callable:
    # What a parser raises is answered by gRPC itself, before any code of ours could choose the status.
    def attempt(content: bytes):
        try:
            return parse(content)
        except DecodeError as error:
            return error

    return attempt


def _refuse_unparsed(handle: Callable) -> Callable:
    @functools.wraps(handle)  # with its attributes: gRPC reads from them which threads it runs on
    def check(request, context: grpc.ServicerContext):
        if isinstance(request, DecodeError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The request cannot be parsed: {request}")
        return handle(request, context)

    return check
