"""The router finds the endpoint of a path, and the model and version in it."""

from __future__ import annotations

import pytest

from tests.runtime.policy_files import write_policy
from trpo_deploy.serve.http.access import AccessControl
from trpo_deploy.serve.http.router import Router
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.settings import Settings


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    path = write_policy(tmp_path_factory.mktemp("models") / "cart" / "policy.onnx")
    settings = Settings(models=(path,))
    return Router(own_registry(settings)[0], settings, AccessControl(settings))


@pytest.mark.parametrize(
    ("path", "label", "name", "version"),
    [
        ("/predict", "/predict", None, None),
        ("/models", "/models", None, None),
        ("/models/a", "/models/NAME", "a", None),
        ("/models/NAME", "/models/NAME", "NAME", None),
        ("/models/", "/models/NAME", "", None),
        ("/models/a/predict", "/models/NAME/predict", "a", None),
        ("/models/predict/predict", "/models/NAME/predict", "predict", None),
        ("/models/a/versions/2/predict", "/models/NAME/versions/VERSION/predict", "a", "2"),
        ("/v2/models/a", "/v2/models/NAME", "a", None),
        ("/v2/models/a/ready", "/v2/models/NAME/ready", "a", None),
        ("/v2/models/a/infer", "/v2/models/NAME/infer", "a", None),
        ("/v2/models/a/versions/2", "/v2/models/NAME/versions/VERSION", "a", "2"),
        ("/v2/models/a/versions/2/infer", "/v2/models/NAME/versions/VERSION/infer", "a", "2"),
        ("/admin/models/a/load", "/admin/models/NAME/load", "a", None),
    ],
)
def test_a_path_gives_its_endpoint_model_and_version(
    router: Router, path: str, label: str, name: str | None, version: str | None
) -> None:
    endpoint, *named = router.find(path)
    assert endpoint is not None
    assert (endpoint.label, *named) == (label, name, version)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/nothing", "/predict/", "/models/a/b/predict", "/models/a/infer", "/models/a/load"),
        *("/models/a/versions/2", "/models/a/versions", "/models/a/versions/2/infer"),
        *("/v2/models/a/predict", "/v2/predict", "/v3/models/a/infer", "/admin/models/a"),
        *("/admin/models/a/versions/2/load", "/models/a/predict\n", "/models/NAME/predict/x"),
        "/v2/models/a/versions/2/3/infer",
    ],
)
def test_any_other_path_has_no_endpoint(router: Router, path: str) -> None:
    assert router.find(path)[0] is None
