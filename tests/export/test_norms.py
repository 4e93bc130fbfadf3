"""Layer norms, RMS norms and batch norms: the file computes what torch computes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from onnx import TensorProto, helper
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from tests.command import run_cli
from tests.export import norms
from tests.export.norms import NORMS, WIDTH, Normed, NormedDict, NormedExtractor, NormedParts
from tests.export.policies import BOX, exported, make_model, save, statistics_for
from tests.export.targets.onnxruntime_1_15 import run_in_old_onnxruntime
from tests.export.test_matrix import ACTIONS, OBSERVATIONS, agrees
from trpo_deploy import TRPO
from trpo_deploy.errors import ExportError
from trpo_deploy.export import ExportOptions, SourceOptions, export_model
from trpo_deploy.export.certify.engines import load_onnxruntime
from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.graph.layers import add_layers
from trpo_deploy.export.reader.layers import read_layers
from trpo_deploy.export.reader.traced_norms import norms_written_out
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.policy_spec import TensorSpec
from trpo_deploy.spec.spaces import Array

ROWS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "ordinary": lambda rng, n: rng.normal(size=(9, n)),
    "equal numbers": lambda _, n: np.repeat([[1000.1], [0.1], [-1e6], [0.0]], n, axis=1),
    "far from zero": lambda rng, n: 1000.1 + 0.01 * rng.normal(size=(9, n)),
    "tiny": lambda rng, n: 1e-20 * rng.normal(size=(9, n)),
    "denormal": lambda rng, n: 1e-40 * rng.normal(size=(9, n)),
    "large": lambda rng, n: 1e15 * rng.normal(size=(9, n)),
}


def rows(kind: str, width: int) -> Array:
    return np.asarray(ROWS[kind](np.random.default_rng(0), width), np.float32)


def graph_of(*modules: nn.Module, width: int, opset: int = 13) -> bytes:
    """Modules as an exported graph, from ``x`` to ``y``."""
    graph = GraphBuilder(opset)
    last = add_layers(graph, read_layers(modules), "x", "/net")
    graph.add("Identity", [last], "y")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", width]) for n in "xy")
    model = helper.make_model(
        helper.make_graph(graph.nodes, "net", [x], [y], graph.initializers),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def run(content: bytes, x: Array) -> Array:
    inputs = (TensorSpec("x", "float32", x.shape[1:]),)
    return load_onnxruntime(content, inputs).run({"x": x})["y"]


def exact(norm: nn.Module, x: Array) -> Array:
    """The norm in float64, where no square overflows and the mean is exact."""
    width, wide = x.shape[1], x.astype(np.float64)
    weight = norm.state_dict().get("weight", torch.ones(width)).numpy().astype(np.float64)
    bias = norm.state_dict().get("bias", torch.zeros(width)).numpy()
    centered = wide - wide.mean(axis=1, keepdims=True) if isinstance(norm, nn.LayerNorm) else wide
    epsilon: Any = norm.eps
    epsilon = np.finfo(np.float32).eps if epsilon is None else epsilon
    std = np.sqrt((centered**2).mean(axis=1, keepdims=True) + epsilon)
    return np.asarray(centered / std * weight + bias)


def randomized(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in norm.parameters():
            each.copy_(torch.randn(each.shape, generator=generator))
    return norm.eval()


ROW_NORMS = [name for name in NORMS if "batch" not in name]


@pytest.mark.parametrize("width", [1, 2, 3, 64, 256])
@pytest.mark.parametrize("name", ROW_NORMS)
def test_a_norm_is_exact_for_rows_of_any_size_and_mean(name: str, width: int) -> None:
    """Also where torch rounds a mean of 1000 by a hundredth of the standard deviation."""
    norm = randomized(NORMS[name](width))
    content = graph_of(norm, width=width)
    for kind in ROWS:
        x = rows(kind, width)
        # The sums of up to 256 numbers round by a few units in the last place of results below 10.
        np.testing.assert_allclose(run(content, x), exact(norm, x), rtol=0, atol=1e-5, err_msg=kind)


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_torchs(name: str) -> None:
    norm = randomized(NORMS[name](64))
    x = rows("ordinary", 64)
    with torch.no_grad():
        expected = norm(torch.from_numpy(x)).numpy()
    # a few units in the last place of results below 10
    np.testing.assert_allclose(run(graph_of(norm, width=64), x), expected, rtol=0, atol=5e-6)


def test_a_row_of_equal_numbers_is_the_bias() -> None:
    norm = randomized(nn.LayerNorm(100))
    bias = norm.state_dict()["bias"]
    found = run(graph_of(norm, width=100), rows("equal numbers", 100))
    # A mean of 1000.1 that is wrong by 6e-4, and not corrected, would make the result wrong by 0.2.
    np.testing.assert_allclose(found, np.tile(bias, (4, 1)), rtol=0, atol=1e-5)


def test_a_variance_that_overflows_leaves_the_bias() -> None:
    """A sum of large numbers must not overflow."""
    norm = randomized(nn.LayerNorm(5))
    bias, largest = norm.state_dict()["bias"], np.finfo(np.float32).max
    x = np.array([[largest, 0.5, largest, 0.5, 0.5], [largest, 0, 0, 0, 0]], np.float32)
    found = run(graph_of(norm, width=5), x)
    np.testing.assert_array_equal(found, np.tile(bias, (2, 1)))


def test_onnxruntime_1_15_computes_norms_as_exactly(tmp_path: Path) -> None:
    """Its own layer norm, for which it would replace other nodes, gives NaN for these rows."""
    norm, x = randomized(nn.LayerNorm(64)), rows("far from zero", 64)
    (tmp_path / "norm.onnx").write_bytes(graph_of(norm, width=64))
    found = run_in_old_onnxruntime(tmp_path / "norm.onnx", {"x": x}, tmp_path)["y"]
    np.testing.assert_allclose(found, exact(norm, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("opset", [7, 13, 18])
def test_every_opset_has_the_norms(opset: int) -> None:
    norm, x = randomized(nn.LayerNorm(5)), rows("ordinary", 5)
    found = run(graph_of(norm, width=5, opset=opset), x)
    np.testing.assert_allclose(found, exact(norm, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_a_policy_with_every_norm_is_exported(name: str, tmp_path: Path) -> None:
    """A model in memory, in training mode, whose statistics the export leaves as they are."""
    network = {
        "activation_fn": lambda: nn.Sequential(NORMS[name](WIDTH), nn.Tanh(), nn.Dropout()),
        "net_arch": [WIDTH, WIDTH],
    }
    model = make_model(algorithm=TRPO, policy_kwargs=network)
    before = {key: each.clone() for key, each in model.policy.state_dict().items()}
    model.policy.set_training_mode(True)
    options = ExportOptions(("value", "log_prob", "mean", "std"))
    result = export_model(model, tmp_path / "policy.onnx", options=options)
    assert result.certificate is not None
    assert result.certificate.passed
    assert all(torch.equal(before[key], each) for key, each in model.policy.state_dict().items())
    agrees(OnnxPolicy(result.path), model, BOX)


def from_zip(
    model: Any, folder: Path, name: str, statistics: VecNormalize | None = None
) -> OnnxPolicy:
    """Export the zip of a policy with a class of :mod:`tests.export.norms`."""
    reading = SourceOptions(allow_import=(f"tests.export.norms:{name}",), image_layout="hwc")
    result = exported(model, folder, statistics, reading=reading)
    assert result.certificate is not None
    assert result.certificate.passed
    return OnnxPolicy(result.path)


@pytest.mark.parametrize("action", ["box", "discrete", "multi discrete", "multi binary"])
def test_a_zip_with_layer_norms_matches_predict_for_every_action_space(
    action: str, tmp_path: Path
) -> None:
    model = make_model(BOX, ACTIONS[action], Normed, algorithm=TRPO)
    statistics = statistics_for(BOX)
    policy = from_zip(model, tmp_path, "Normed", statistics)
    agrees(policy, model, BOX, statistics.normalize_obs)


@pytest.mark.parametrize(
    "observation", ["box float64 n-d", "discrete from 2", "multi binary n-d", "dict"]
)
def test_a_zip_with_layer_norms_matches_predict_for_every_observation_space(
    observation: str, tmp_path: Path
) -> None:
    space, kind = OBSERVATIONS[observation]
    policy = NormedDict if kind == "MultiInputPolicy" else Normed
    model = make_model(space, spaces.Discrete(3), policy, algorithm=TRPO)
    agrees(from_zip(model, tmp_path, policy.__name__), model, space)


@pytest.mark.parametrize(
    "keywords",
    [
        {"use_sde": True},
        {"policy_kwargs": {"squash_output": True}},
        {"policy_kwargs": {"share_features_extractor": False, "net_arch": []}},
    ],
    ids=["gSDE", "squashed", "no hidden layer"],
)
def test_policies_with_layer_norms_have_every_option(
    keywords: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(policy=Normed, algorithm=TRPO, **keywords)
    options = ExportOptions(("value", "log_prob", "mean", "std"))
    result = export_model(model, tmp_path / "policy.onnx", options=options)
    agrees(OnnxPolicy(result.path), model, BOX)


@pytest.mark.parametrize(
    ("algorithm", "name"), [(sb3_contrib.TRPO, "NormAndTanh"), (PPO, "OtherNorms")]
)
def test_zips_of_stable_baselines3_may_name_an_own_activation_with_norms(
    algorithm: Any, name: str, tmp_path: Path
) -> None:
    network = {"activation_fn": getattr(norms, name), "net_arch": [WIDTH, WIDTH]}
    model = make_model(algorithm=algorithm, policy_kwargs=network)
    agrees(from_zip(model, tmp_path, name), model, BOX)


def test_a_zip_with_norms_needs_a_permission(tmp_path: Path) -> None:
    save(make_model(policy=Normed), tmp_path)
    run_cli("export", tmp_path).assert_one_clear_line("norms.Normed", "--allow-import")
    run = run_cli("export", tmp_path, "--allow-import", "tests.export.norms:Normed")
    assert run.code == 0, run.error


@pytest.mark.parametrize("opset", [13, 17])
def test_norms_of_an_own_extractor_are_simple_operators(opset: int, tmp_path: Path) -> None:
    space = spaces.Box(-np.inf, np.inf, (64,))
    model = make_model(space, policy_kwargs={"features_extractor_class": NormedExtractor})
    options = ExportOptions(opset=opset)
    path = export_model(model, tmp_path / "policy.onnx", options=options).path
    agrees(OnnxPolicy(path), model, space)
    assert not {"LayerNormalization", "ReduceMean", "Pow"} & operators(path)


@pytest.mark.parametrize("name", ROW_NORMS)
def test_a_traced_norm_is_exact_for_rows_of_any_mean(name: str) -> None:
    norm = randomized(NORMS[name](64))
    for kind in ROWS:
        x = rows(kind, 64)
        with torch.no_grad(), norms_written_out(norm):
            found = norm(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(found, exact(norm, x), rtol=0, atol=1e-5, err_msg=kind)


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_norms_of_an_own_extractor_of_a_dict_are_exported(tmp_path: Path) -> None:
    space = spaces.Dict({"a": BOX, "b": spaces.Discrete(4)})
    network = {"features_extractor_class": NormedParts}
    model = make_model(space, policy="MultiInputPolicy", policy_kwargs=network)
    agrees(from_zip(model, tmp_path, "NormedParts"), model, space)


def test_an_export_leaves_the_norms_of_an_extractor_as_they_were() -> None:
    extractor = NormedExtractor(spaces.Box(-1, 1, (64,)))
    x = torch.from_numpy(rows("far from zero", 64))
    with torch.no_grad():
        before = extractor(x)
        with norms_written_out(extractor):
            assert not torch.equal(extractor(x), before)
        assert torch.equal(extractor(x), before)


class Doubled(nn.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Backwards(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for module in reversed(self):
            x = module(x)
        return x


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.LayerNorm((100, WIDTH)), "normalises over several axes"),
        (nn.RMSNorm((100, WIDTH)), "normalises over several axes"),
        (nn.BatchNorm1d(WIDTH, track_running_stats=False), "without running statistics"),
        (Doubled(WIDTH), "supported: Linear, Conv2d, BatchNorm1d, LayerNorm, RMSNorm, Dropout"),
        (nn.GroupNorm(2, WIDTH), "supported: Linear"),
        (Backwards(nn.LayerNorm(WIDTH), nn.Tanh()), "the layer Backwards( (0): LayerNorm"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_other_norms_are_refused_in_one_line(layer: nn.Module, says: str, tmp_path: Path) -> None:
    network = {"activation_fn": lambda: layer, "net_arch": [WIDTH]}
    with pytest.raises(ExportError, match=re.escape(says)) as error:
        export_model(make_model(policy_kwargs=network), tmp_path / "policy.onnx", verify=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "policy.onnx").exists()


def test_a_network_that_runs_its_layers_in_another_way_is_refused(tmp_path: Path) -> None:
    model = make_model()
    model.policy.mlp_extractor.policy_net = Backwards(nn.Tanh(), nn.Linear(3, 64))
    with pytest.raises(ExportError, match="the layer Backwards"):
        export_model(model, tmp_path / "policy.onnx", verify=False)
