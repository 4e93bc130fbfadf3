"""WebSocket connections: check the request, then accept or refuse it."""

from __future__ import annotations

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.http.access import AccessControl
from trpo_deploy.serve.http.asgi import send_reply
from trpo_deploy.serve.http.hosts import AllowedHosts
from trpo_deploy.serve.messages import Receive, Reply, Scope, Send
from trpo_deploy.serve.metrics import count_error, count_request
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.frame_format import FrameFormat
from trpo_deploy.serve.protocols.predict import Predictor
from trpo_deploy.serve.protocols.websocket import ENDPOINT, WebSocketConnection


class WebSocketHandshake:
    """Opens the WebSockets of one worker.

    Args:
        access: Checks keys.
        hosts: Checks hosts and origins.
        max_connections: Maximum number of open WebSockets.

    Attributes:
        open: Number of open WebSockets.
    """

    def __init__(self, access: AccessControl, hosts: AllowedHosts, max_connections: int) -> None:
        self._access = access
        self._hosts = hosts
        self._max_connections = max_connections
        self.open = 0

    async def run(self, predictor: Predictor, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept a connection and serve it until it closes, or refuse it."""
        await receive()  # websocket.connect
        try:
            model = self._check(predictor, scope)
            frames = FrameFormat.from_query(scope["query_string"], model)
        except RequestError as error:
            name = predictor.served_name(scope["path"].removeprefix("/ws/"))
            count_error(error.code, name)
            count_request(ENDPOINT, name, error.status, 0)
            await _refuse(scope, send, error)
            return
        self.open += 1
        try:
            await WebSocketConnection(predictor, model.name, frames).run(receive, send)
        finally:
            self.open -= 1

    def _check(self, predictor: Predictor, scope: Scope) -> ServedModel:
        """The model that the path asks for."""
        headers = dict(scope["headers"])
        self._hosts.check(scope, headers)
        match scope["path"].split("/")[1:]:
            case ["ws", name]:
                self._access.check_key("key", headers)
                self._hosts.check_origin(headers)
                if self.open >= self._max_connections:
                    raise RequestError.overloaded(f"{self.open} WebSockets are open")
                return predictor.registry.get(name)
        raise RequestError(404, "unknown_path", "no such path; WebSockets are at /ws/NAME")


async def _refuse(scope: Scope, send: Send, error: RequestError) -> None:
    """Answer with HTTP if the server supports it, otherwise close the connection."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
        return
    reply = Reply(error.to_json(), status=error.status, headers=error.headers)
    await send_reply(send, reply, kind="websocket.http.response")
