"""Hostile and damaged files are refused without running code or exhausting memory."""

from __future__ import annotations

import io
import pickle
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.command import run_cli
from tests.sb3.zips import replaced, save, with_pickle, with_policy_kwargs
from trpo_deploy.errors import PolicyZipError, UnsafePickleError
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.sb3.statistics import read_vecnormalize


class Hostile:
    """Ordinary unpickling of it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"__import__('pathlib').Path({str(self.target)!r}).touch()",))


@pytest.mark.parametrize(
    "entry", ["policy_class", "policy_kwargs", "observation_space", "action_space"]
)
def test_a_pickle_that_would_run_code_is_refused_without_running_it(
    entry: str, tmp_path: Path
) -> None:
    save(tmp_path / "policy.zip")
    target = tmp_path / "owned"
    content = pickle.dumps(Hostile(target))
    pickle.loads(content)
    assert target.exists(), "the pickle is hostile"
    target.unlink()
    changed = with_pickle(tmp_path / "policy.zip", entry, content)
    with pytest.raises(UnsafePickleError, match=r"builtins\.eval"):
        read_policy_zip(changed)
    run = run_cli("export", changed, "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line("builtins.eval", "none of its code was run")
    assert not target.exists()
    assert not (tmp_path / "policy.onnx").exists()


def test_a_hostile_entry_that_is_not_needed_is_not_decoded(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    target = tmp_path / "owned"
    changed = with_pickle(tmp_path / "policy.zip", "lr_schedule", pickle.dumps(Hostile(target)))
    assert "lr_schedule" in read_policy_zip(changed).skipped
    assert not target.exists()


def test_hostile_statistics_and_weights_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps(Hostile(target)))
    with pytest.raises(UnsafePickleError):
        read_vecnormalize(tmp_path / "vecnormalize.pkl")
    save(tmp_path / "policy.zip")
    weights = io.BytesIO()
    torch.save({"weight": Hostile(target)}, weights)
    with pytest.raises(PolicyZipError, match="not a dictionary of tensors"):
        read_policy_zip(replaced(tmp_path / "policy.zip", "policy.pth", weights.getvalue()))
    assert not target.exists()


def test_an_allowed_class_is_not_instantiated(tmp_path: Path) -> None:
    class Calls:
        def __reduce__(self) -> tuple[Any, ...]:
            return (torch.nn.ELU, (1, 2, 3, 4))  # would raise TypeError if called

    save(tmp_path / "policy.zip")
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", pickle.dumps({"x": Calls()}))
    with pytest.raises(UnsafePickleError, match="instance of torch"):
        read_policy_zip(changed)


@pytest.mark.parametrize("cut", [0, 1, 100, -100, -1])
def test_a_truncated_zip_is_refused(cut: int, tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    content = (tmp_path / "policy.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:cut])
    with pytest.raises(PolicyZipError, match="truncated"):
        read_policy_zip(tmp_path / "cut.zip")


def test_a_damaged_zip_is_refused_wherever_it_is_damaged(tmp_path: Path) -> None:
    """The policy is read or refused; no other exception is raised."""
    save(tmp_path / "policy.zip")
    content = bytearray((tmp_path / "policy.zip").read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 100):
        damaged = content.copy()
        damaged[position] ^= 0xFF
        (tmp_path / "damaged.zip").write_bytes(damaged)
        try:
            read_policy_zip(tmp_path / "damaged.zip").build_policy()
        except PolicyZipError:
            continue


def test_an_entry_with_a_huge_size_is_not_read(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", b"")
        archive.writestr("data", b" " * (65 * 2**20))
    assert bomb.stat().st_size < 2**20
    with pytest.raises(PolicyZipError, match="more than"):
        read_policy_zip(bomb)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = save(tmp_path / "policy.zip")
    with torch.no_grad():
        model.policy.action_net.bias[0] = torch.nan
    model.save(tmp_path / "policy.zip")
    with pytest.raises(PolicyZipError, match=r"action_net\.bias.*NaN"):
        read_policy_zip(tmp_path / "policy.zip")


@pytest.mark.parametrize(
    "policy_kwargs",
    [
        {"net_arch": [10**6, 10**6]},
        {"net_arch": {"pi": [10**12], "vf": []}},
        {"net_arch": [1] * 10**5},
        {"net_arch": [10**6, {"pi": [10**6]}]},
        {"features_extractor_kwargs": {"features_dim": 10**9}},
    ],
)
def test_a_huge_network_in_a_small_zip_is_refused_without_allocating_it(
    policy_kwargs: dict[str, Any], tmp_path: Path
) -> None:
    save(tmp_path / "policy.zip")
    changed = with_policy_kwargs(tmp_path / "policy.zip", policy_kwargs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PolicyZipError, match="do not fit the policy"):
        read_policy_zip(changed).build_policy()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024  # kB; the networks would take terabytes


@pytest.mark.parametrize("space", [spaces.Discrete(10**12), spaces.MultiBinary(10**12)])
def test_a_huge_space_is_refused(space: spaces.Space[Any], tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    changed = with_pickle(tmp_path / "policy.zip", "observation_space", pickle.dumps(space))
    with pytest.raises(PolicyZipError, match="do not fit the policy"):
        read_policy_zip(changed).build_policy()


def test_a_list_that_nests_itself_is_resolved_once(tmp_path: Path) -> None:
    """Twenty lists, each with ten times the previous one, would expand to 10**20 items."""
    save(tmp_path / "policy.zip")
    value: list[Any] = []
    for _ in range(20):
        value = [value] * 10
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", pickle.dumps({"x": value}))
    with pytest.raises(PolicyZipError, match="unknown policy_kwargs"):
        read_policy_zip(changed)


def test_a_pickle_with_a_huge_index_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    content = b"\x80\x02]r\xff\xff\xff\x7f."  # LONG_BINPUT 2**31 - 1: room for 16 GB
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", content)
    with pytest.raises(PolicyZipError, match="gives an object the index"):
        read_policy_zip(changed)


@pytest.mark.parametrize("depth", [10**5])
def test_deep_nesting_is_refused(depth: int, tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    changed = replaced(tmp_path / "policy.zip", "data", b"[" * depth)
    with pytest.raises(PolicyZipError, match="not JSON"):
        read_policy_zip(changed)
    content = b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", content)
    with pytest.raises(PolicyZipError):
        read_policy_zip(changed)


def test_weights_larger_than_their_storage_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    content = io.BytesIO()
    torch.save({"x": torch.zeros(1).expand(10**6, 10**6)}, content)
    changed = replaced(tmp_path / "policy.zip", "policy.pth", content.getvalue())
    with pytest.raises(PolicyZipError, match="claims weights"):
        read_policy_zip(changed)


def test_compressed_weights_inside_the_zip_are_refused(tmp_path: Path) -> None:
    """The inner zip can be a bomb, like the outer one."""
    save(tmp_path / "policy.zip")
    with zipfile.ZipFile(tmp_path / "policy.zip") as source:
        inner = zipfile.ZipFile(io.BytesIO(source.read("policy.pth")))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in inner.namelist():
            target.writestr(entry, inner.read(entry))
        target.writestr("archive/data/99", b"\0" * 2**24)
    changed = replaced(tmp_path / "policy.zip", "policy.pth", packed.getvalue())
    with pytest.raises(PolicyZipError, match="claim"):
        read_policy_zip(changed)
