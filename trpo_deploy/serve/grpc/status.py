"""gRPC's status codes for the service's errors."""

from __future__ import annotations

import grpc

from trpo_deploy.serve.errors import RequestError

_BY_CODE = {
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unknown_method": grpc.StatusCode.UNIMPLEMENTED,
}
_BY_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
}


def status_code(error: RequestError) -> grpc.StatusCode:
    """The status code of an error."""
    by_status = _BY_STATUS.get(error.status, grpc.StatusCode.INTERNAL)
    return _BY_CODE.get(error.code, by_status)
