"""``POST /predict``: an observation in, an action out, as JSON or as a raw tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from trpo_deploy.errors import ObservationError
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import JSON, OCTETS, Reply, Request
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.batching import InferenceJob
from trpo_deploy.serve.protocols.json_io import dump_array, load_object
from trpo_deploy.serve.protocols.policy_state import PolicyState, decode_state, encode_state
from trpo_deploy.serve.protocols.predict_request import (
    PredictRequest,
    merge_body_and_path,
    parse_predict_request,
)
from trpo_deploy.serve.protocols.tensor import tensor_from_headers, tensor_to_headers
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.policy_spec import ACTION
from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True, slots=True)
class Predictor:
    """Answers predict requests with the actions of the served models."""

    registry: Registry
    settings: Settings

    def predict(self, request: Request) -> Reply | InferenceJob:
        """Answer an HTTP request.

        Returns:
            The reply, or a job that may share a run with other requests.

        Raises:
            RequestError: The request cannot be answered.
        """
        content_type = request.content_type
        if content_type == JSON:
            return self._predict_json(request)
        if content_type == OCTETS:
            return self._predict_tensor(request)
        raise RequestError(
            415,
            "unsupported_media_type",
            "send the observation as application/json or application/octet-stream",
            field="content-type",
            expected="application/json or application/octet-stream",
            received=content_type.decode("latin-1")[:100],
        )

    def served_name(self, name: str | None) -> str:
        """A name that a client sent, as a label of the metrics: empty unless it is served."""
        return name if name is not None and name in self.registry.entries else ""

    def reply(self, request: PredictRequest) -> Reply:
        """Answer a parsed request.

        Raises:
            RequestError: The request cannot be answered.
        """
        return self._reply(self.find_model(request), request)

    def find_model(
        self, request: PredictRequest, name: str | None = None, version: str | None = None
    ) -> ServedModel:
        """The model of a request. ``name`` and ``version`` come from the URL.

        Raises:
            RequestError: There is no such model, or body and URL contradict each other.
        """
        return self.registry.get(
            merge_body_and_path("model", request.model, name),
            merge_body_and_path("version", request.version, version),
        )

    def act(
        self, model: ServedModel, request: PredictRequest, state: PolicyState | None = None
    ) -> tuple[Array, PolicyState | None]:
        """Run a policy on one observation or a batch.

        Args:
            model: The model to run.
            request: The observation, and optionally a state.
            state: The state to continue from if the request has none.

        Returns:
            The action, with a batch axis if the observation has one, and the next state.

        Raises:
            RequestError: The policy does not accept the observation or the state, or it cannot
                sample.
        """
        policy = model.policy
        if not (request.deterministic or policy.can_sample):
            raise RequestError(
                422,
                "deterministic_only",
                f"model {model.name!r} has the deterministic action only; leave "
                '"deterministic" out or set it to true',
                field="deterministic",
                expected="true",
                received="false",
            )
        inputs, batched = model.validate(request.observation, self.settings)
        if request.state is not None:
            batch = len(next(iter(inputs.values())))
            state = decode_state(request.state, policy.spec.states, batch)
        try:
            action, state = policy.step(inputs, state, deterministic=request.deterministic)
        except ObservationError as error:  # the state has another batch size
            raise RequestError.from_observation_error(error) from error
        return (action if batched else action[0, ...]), state

    def _predict_json(self, request: Request) -> Reply | InferenceJob:
        parsed = parse_predict_request(load_object(request.body))
        model = self.find_model(parsed, request.model, request.version)
        request.model = model.name
        if parsed.deterministic and parsed.state is None and not model.policy.spec.states:
            inputs, batched = model.validate(parsed.observation, self.settings)
            make_reply = partial(_reply_with_outputs, model, batched)
            return InferenceJob(model.policy, (ACTION,), inputs, make_reply)
        return self._reply(model, parsed)

    def _predict_tensor(self, request: Request) -> Reply:
        model = self.registry.get(request.model, request.version)
        request.model = model.name
        if len(model.policy.spec.inputs) > 1:
            raise RequestError(
                415,
                "unsupported_media_type",
                f"model {model.name!r} takes several arrays; send JSON, or the binary tensors of "
                f"/v2/models/{model.name}/infer",
                field="content-type",
                expected="application/json",
                received="application/octet-stream",
            )
        observation = tensor_from_headers(request.headers, request.body)
        action, _ = self.act(model, PredictRequest(observation))
        version_header = (b"x-model-version", model.version.encode())
        headers = (*tensor_to_headers(action), version_header)
        return Reply(action.tobytes(), model.name, content_type=OCTETS, headers=headers)

    def _reply(self, model: ServedModel, request: PredictRequest) -> Reply:
        action, state = self.act(model, request)
        return Reply(dump_reply(model, action, state), model.name)


def dump_reply(model: ServedModel, action: Array, state: PolicyState | None = None) -> bytes:
    """The JSON reply with an action."""
    text = b',"state":"' + encode_state(state) + b'"' if state else b""
    return b'{"action":' + dump_array(action) + text + model.json_tail


def _reply_with_outputs(model: ServedModel, batched: bool, outputs: list[Array]) -> Reply:
    action = outputs[0]
    return Reply(dump_reply(model, action if batched else action[0, ...]), model.name)
