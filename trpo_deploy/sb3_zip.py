"""Reads policy zips and statistics of any Stable-Baselines3 version without running code from them.

Both formats hold pickles, and unpickling is calling: whatever callable the file names. This
reader calls none of them. Each object in a pickle becomes an inert :class:`_Record` of its
name, arguments and state; a short table (:data:`_BUILDERS`) then makes spaces, arrays and
statistics from the records it knows. A name outside of the table refuses the file, and
entries that are not needed, such as learning-rate functions, are never decoded at all.

The layout mirrored here is that of ``stable_baselines3.common.save_util`` (zip: ``data`` as
JSON with cloudpickled values in base64, ``policy.pth`` as a torch state dict) and of
``stable_baselines3.common.vec_env.VecNormalize.__getstate__``.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common import policies, torch_layers
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from trpo_deploy.errors import PolicyZipError, UnsafePickleError

# Far above what policies need, far below what would exhaust a machine.
_MAX_DATA_BYTES = 64 * 2**20
_MAX_WEIGHT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class PolicyZip:
    """A policy as its zip describes it, decoded but not built."""

    path: Path
    algorithm: str
    """``TRPO``, ``PPO`` or ``A2C``."""
    policy_class: type[policies.ActorCriticPolicy]
    policy_kwargs: Mapping[str, Any]
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    use_sde: bool
    weights: Mapping[str, torch.Tensor]
    num_timesteps: int
    """Environment steps the policy was trained for."""
    sb3_version: str
    sha256: str
    skipped: tuple[str, ...]
    """Entries of the zip's ``data`` that hold pickles and were not decoded."""

    def build_policy(self) -> policies.ActorCriticPolicy:
        """The policy as Stable-Baselines3's own module, on the CPU, in evaluation mode.

        Raises:
            PolicyZipError: the weights do not fit the architecture that the zip names.
        """
        try:
            # Building draws initial weights; the caller's random state is not ours to move.
            with torch.random.fork_rng(devices=[]):
                policy = self.policy_class(
                    self.observation_space,
                    self.action_space,
                    lambda _: 0.0,
                    use_sde=self.use_sde,
                    **{**self.policy_kwargs, "ortho_init": False},
                )
            policy.load_state_dict(self.weights)
        except (RuntimeError, ValueError, TypeError, AssertionError, MemoryError) as error:
            reason = " ".join(str(error).split())
            raise PolicyZipError(
                f"{self.path}: the weights do not make the policy that the zip describes ({reason})"
            ) from error
        policy.set_training_mode(False)
        return policy


def read_policy_zip(path: Path) -> PolicyZip:
    """Read an actor-critic policy of TRPO, PPO or A2C.

    Raises:
        PolicyZipError: no zip, a truncated one, or no policy of the supported kinds.
        UnsafePickleError: a needed entry refers to code outside of the allow-list.
    """
    content, version, weight_bytes = _read_entries(path)
    try:
        data = json.loads(content)
    except ValueError as error:
        raise PolicyZipError(f"{path}: the entry 'data' is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise PolicyZipError(f"{path}: the entry 'data' is no JSON object")
    entries = _Entries(path, data)
    algorithm = _algorithm(path, data)
    return PolicyZip(
        path=path,
        algorithm=algorithm,
        policy_class=_policy_class(path, entries.get("policy_class"), algorithm),
        policy_kwargs=_policy_kwargs(path, entries.get("policy_kwargs")),
        observation_space=_space(path, entries.get("observation_space")),
        action_space=_space(path, entries.get("action_space")),
        use_sde=bool(data.get("use_sde", False)),
        weights=_read_weights(path, weight_bytes),
        num_timesteps=int(data.get("num_timesteps", 0)),
        sb3_version=version,
        sha256=sha256(path.read_bytes()).hexdigest(),
        skipped=entries.skipped(),
    )


def read_vecnormalize(path: Path) -> VecNormalize:
    """Read running statistics that ``VecNormalize.save`` wrote.

    The object comes as ``VecNormalize.load`` gives it, before ``set_venv``.

    Raises:
        PolicyZipError: no such file, or it cannot be decoded.
        UnsafePickleError: the file refers to code outside of the allow-list.
    """
    try:
        if path.stat().st_size > _MAX_DATA_BYTES:
            raise PolicyZipError(f"{path} is larger than {_MAX_DATA_BYTES} bytes: no statistics")
        content = path.read_bytes()
    except OSError as error:
        raise PolicyZipError(f"cannot read {path}: {error.strerror}") from error
    record = _decode(content, str(path))
    if not isinstance(record, _Record) or record.name != _VECNORMALIZE:
        raise PolicyZipError(f"{path} holds no VecNormalize statistics; expected vecnormalize.pkl")
    try:
        state = {name: _resolve(record.state[name]) for name in _STATISTICS if name in record.state}
        state.setdefault("norm_obs_keys", None)
        statistics = VecNormalize.__new__(VecNormalize)
        statistics.__setstate__({"old_reward": np.array([]), **state})
        _check_statistics(statistics)
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PolicyZipError(f"{path}: the statistics cannot be decoded ({error!r})") from error
    return statistics


_VECNORMALIZE = "stable_baselines3.common.vec_env.vec_normalize.VecNormalize"
# What VecNormalize needs to go on; the last batch of observations and rewards is left out.
_STATISTICS = (
    "observation_space",
    "action_space",
    "obs_rms",
    "ret_rms",
    "clip_obs",
    "clip_reward",
    "gamma",
    "epsilon",
    "training",
    "norm_obs",
    "norm_reward",
    "norm_obs_keys",
    "num_envs",
    "render_mode",
)


def _check_statistics(statistics: VecNormalize) -> None:
    rms = statistics.obs_rms if statistics.norm_obs else {}
    for each in rms.values() if isinstance(rms, dict) else [rms]:
        if not (np.isfinite(each.mean).all() and np.isfinite(each.var).all()):
            raise ValueError("mean or variance is not finite")
        if (each.var < 0).any():
            raise ValueError("a variance is negative")
    if not (statistics.clip_obs > 0 and statistics.epsilon > 0):
        raise ValueError("clip_obs and epsilon must be above zero")


# --- the zip --------------------------------------------------------------------------------


def _read_entries(path: Path) -> tuple[bytes, str, bytes]:
    """The raw ``data``, the version text, and the raw weights, each bounded in size."""
    try:
        with zipfile.ZipFile(path) as archive:
            missing = {"data", "policy.pth"} - set(archive.namelist())
            if missing:
                raise PolicyZipError(
                    f"{path} is a zip but no Stable-Baselines3 policy: it lacks {sorted(missing)}"
                )
            data = _read_entry(archive, "data", _MAX_DATA_BYTES)
            weights = _read_entry(archive, "policy.pth", _MAX_WEIGHT_BYTES)
            version = b"unknown"
            if "_stable_baselines3_version" in archive.namelist():
                version = _read_entry(archive, "_stable_baselines3_version", 1024)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PolicyZipError(
            f"{path} is no policy zip, or a truncated one ({reason}); "
            "give a zip that model.save() wrote"
        ) from error
    return data, version.decode(errors="replace").strip(), weights


def _read_entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > limit:
        raise PolicyZipError(
            f"{archive.filename}: the entry {name!r} claims {size} bytes, more than the "
            f"{limit} that are read"
        )
    return archive.read(name)


def _read_weights(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged and for hostile files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PolicyZipError(f"{path}: policy.pth holds no plain weights ({reason})") from error
    if not isinstance(weights, dict) or not all(
        isinstance(value, torch.Tensor) for value in weights.values()
    ):
        raise PolicyZipError(f"{path}: policy.pth holds no plain weights")
    wrong = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if wrong:
        raise PolicyZipError(f"{path}: the weights {wrong} have NaN or infinite values")
    return weights


class _Entries:
    """The zip's ``data``, with pickled values decoded when they are asked for."""

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        self._path = path
        self._data = data
        self._decoded: set[str] = set()

    def get(self, name: str) -> object:
        if name not in self._data:
            raise PolicyZipError(f"{self._path}: the entry 'data' lacks {name!r}")
        value = self._data[name]
        if not _is_pickled(value):
            return value
        self._decoded.add(name)
        where = f"{self._path}: {name}"
        try:
            content = base64.b64decode(value[":serialized:"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise PolicyZipError(f"{where} is no base64 ({error})") from error
        return _resolve(_decode(content, where))

    def skipped(self) -> tuple[str, ...]:
        names = {name for name, value in self._data.items() if _is_pickled(value)}
        return tuple(sorted(names - self._decoded))


def _is_pickled(value: object) -> bool:
    return isinstance(value, dict) and ":serialized:" in value


def _algorithm(path: Path, data: Mapping[str, Any]) -> str:
    """Told by the hyperparameters, since the zip does not name its class."""
    if "cg_max_steps" in data:
        return "TRPO"
    if "clip_range" in data:
        return "PPO"
    if "gae_lambda" in data:
        return "A2C"
    raise PolicyZipError(
        f"{path} is no actor-critic policy of TRPO, PPO or A2C; other algorithms are not supported"
    )


def _policy_class(path: Path, value: object, algorithm: str) -> type[policies.ActorCriticPolicy]:
    if isinstance(value, type) and issubclass(value, policies.ActorCriticPolicy):
        return value
    raise PolicyZipError(f"{path}: {algorithm} with the policy {value!r} is not supported")


# What changes the actions of a policy; the rest of SB3's keywords concern training only.
_ACTING_KEYWORDS = frozenset(
    {
        "net_arch",
        "activation_fn",
        "log_std_init",
        "full_std",
        "use_expln",
        "squash_output",
        "features_extractor_class",
        "features_extractor_kwargs",
        "share_features_extractor",
        "normalize_images",
    }
)
_TRAINING_KEYWORDS = frozenset({"ortho_init", "optimizer_class", "optimizer_kwargs", "use_sde"})


def _policy_kwargs(path: Path, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PolicyZipError(f"{path}: policy_kwargs is {type(value).__name__}, expected a mapping")
    unknown = set(value) - _ACTING_KEYWORDS - _TRAINING_KEYWORDS
    if unknown:
        raise PolicyZipError(f"{path}: unknown policy_kwargs {sorted(map(str, unknown))}")
    kwargs = {name: item for name, item in value.items() if name in _ACTING_KEYWORDS}
    net_arch = kwargs.get("net_arch")
    if isinstance(net_arch, list) and len(net_arch) == 1 and isinstance(net_arch[0], dict):
        # SB3 before 1.8 wrote [dict(pi=..., vf=...)]; since then it is the mapping itself.
        kwargs["net_arch"] = net_arch[0]
    return kwargs


def _space(path: Path, value: object) -> spaces.Space[Any]:
    if isinstance(value, spaces.Space):
        return value
    raise PolicyZipError(f"{path}: expected a space, found {type(value).__name__}")


# --- pickles as records ---------------------------------------------------------------------


class _Record:
    """An object of a pickle: what it is an instance of, and with which arguments and state."""

    name: str

    def __init__(self, *args: object) -> None:
        self.args = args
        self.state: Any = {}
        self.items: dict[object, object] = {}

    def __setstate__(self, state: object) -> None:
        # copyreg writes (dict, slots) for some classes; only the dict is of use here.
        self.state = state[0] if isinstance(state, tuple) and len(state) == 2 else state

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value


class _Reader(pickle.Unpickler):
    """An unpickler for which every global is a new, inert subclass of :class:`_Record`."""

    def find_class(self, module: str, name: str) -> type[_Record]:
        full = _canonical(f"{module}.{name}")
        if full not in _BUILDERS and full not in _CLASSES and not full.startswith(_IGNORED):
            raise UnsafePickleError(
                f"the pickle refers to {module}.{name}, which is not on the allow-list; "
                "nothing of it was run"
            )
        return type(full, (_Record,), {"name": full})


def _canonical(name: str) -> str:
    """One name for what old and new versions of a library call differently."""
    name = re.sub(r"^gym\.", "gymnasium.", name)
    return re.sub(r"^numpy\.core\.", "numpy._core.", name)


def _decode(content: bytes, where: str) -> object:
    try:
        return _Reader(io.BytesIO(content)).load()
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{where}: {error}") from error
    except Exception as error:  # damaged pickles raise nearly every built-in exception
        raise PolicyZipError(f"{where} cannot be decoded ({error!r})") from error


def _resolve(value: object) -> Any:
    """Records, also inside of containers, as the objects that they stand for."""
    if isinstance(value, _Record):
        if value.name.startswith(_IGNORED):
            return None
        if value.name not in _BUILDERS:
            raise UnsafePickleError(f"an instance of {value.name} is not on the allow-list")
        return _BUILDERS[value.name](value)
    if isinstance(value, type) and issubclass(value, _Record):
        if value.name not in _CLASSES:
            raise UnsafePickleError(f"the class {value.name} is not on the allow-list")
        return _CLASSES[value.name]
    if isinstance(value, dict):
        return {key: _resolve(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(item) for item in value)
    return value


def _dtype(record: _Record) -> np.dtype[Any]:
    code = record.args[0]
    if not isinstance(code, str) or not re.fullmatch(r"[biuf]\d{1,2}", code):
        raise UnsafePickleError(f"arrays of dtype {code!r} are not on the allow-list")
    # (3, '<', ...): the byte order; '|' where there is none
    order = record.state[1] if record.state else "="
    return np.dtype(f"{order}{code}")


def _array(record: _Record) -> np.ndarray[Any, Any]:
    """``_reconstruct`` with its state (version, shape, dtype, is_fortran, bytes)."""
    _, shape, dtype, is_fortran, content = record.state
    array = np.frombuffer(content, _resolve(dtype))
    return array.reshape(shape, order="F" if is_fortran else "C").copy()


def _array_of_buffer(record: _Record) -> np.ndarray[Any, Any]:
    """Protocol 5's ``_frombuffer(bytes, dtype, shape, order)``."""
    content, dtype, shape, order = cast(tuple[Any, ...], record.args)
    return np.frombuffer(content, _resolve(dtype)).reshape(shape, order=order).copy()


def _scalar(record: _Record) -> Any:
    dtype, content = cast(tuple[Any, ...], record.args)
    return np.frombuffer(content, _resolve(dtype))[0]


def _field(record: _Record, *names: str) -> Any:
    """The first of several names that the state has; gym and gymnasium differ in underscores."""
    for name in names:
        if name in record.state:
            return _resolve(record.state[name])
    raise PolicyZipError(f"a pickled {record.name} lacks {names[0]!r}")


def _box(record: _Record) -> spaces.Box:
    low, high = _field(record, "low"), _field(record, "high")
    return spaces.Box(low, high, dtype=low.dtype)


def _discrete(record: _Record) -> spaces.Discrete:
    # gym before 0.22 had no start
    start = _resolve(record.state.get("start", 0))
    return spaces.Discrete(int(_field(record, "n")), start=int(start))


def _multi_discrete(record: _Record) -> spaces.MultiDiscrete:
    nvec = _field(record, "nvec")
    start = _resolve(record.state.get("start"))
    return spaces.MultiDiscrete(nvec, start=start)


def _multi_binary(record: _Record) -> spaces.MultiBinary:
    n = _field(record, "n")
    return spaces.MultiBinary(int(n) if np.ndim(n) == 0 else list(n))


def _dict_space(record: _Record) -> spaces.Dict:
    return spaces.Dict(_field(record, "spaces"))


def _ordered_dict(record: _Record) -> dict[Any, Any]:
    pairs = cast(Any, record.args[0]) if record.args else []
    return {_resolve(key): _resolve(item) for key, item in [*pairs, *record.items.items()]}


def _running_mean_std(record: _Record) -> RunningMeanStd:
    mean = np.asarray(_field(record, "mean"), np.float64)
    statistics = RunningMeanStd(shape=mean.shape)
    statistics.mean = mean
    statistics.var = np.asarray(_field(record, "var"), np.float64)
    statistics.count = float(_field(record, "count"))
    if statistics.var.shape != mean.shape:
        raise ValueError("mean and variance differ in shape")
    return statistics


def _not_alone(record: _Record) -> Any:
    raise UnsafePickleError(f"{record.name} cannot stand here")


_BUILDERS: dict[str, Callable[[_Record], Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "gymnasium.spaces.box.Box": _box,
    "gymnasium.spaces.dict.Dict": _dict_space,
    "gymnasium.spaces.discrete.Discrete": _discrete,
    "gymnasium.spaces.multi_binary.MultiBinary": _multi_binary,
    "gymnasium.spaces.multi_discrete.MultiDiscrete": _multi_discrete,
    "numpy._core.multiarray._reconstruct": _array,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _not_alone,
    "stable_baselines3.common.running_mean_std.RunningMeanStd": _running_mean_std,
    _VECNORMALIZE: _not_alone,
}

# Random states are not needed, and their records are never looked into.
_IGNORED = ("numpy.random.", "gymnasium.utils.seeding.")

_CLASSES: dict[str, type] = {
    **{
        f"torch.nn.modules.{module}.{name}": getattr(nn, name)
        for module, names in {
            "activation": "ELU GELU Hardtanh LeakyReLU Mish ReLU ReLU6 SELU SiLU Sigmoid "
            "Softplus Softsign Tanh",
            "linear": "Identity",
        }.items()
        for name in names.split()
    },
    **{
        f"{module}.{name}": getattr(policies, name)
        for module in ("stable_baselines3.common.policies",)
        for name in (
            "ActorCriticPolicy",
            "ActorCriticCnnPolicy",
            "MultiInputActorCriticPolicy",
        )
    },
    **{
        f"stable_baselines3.common.torch_layers.{name}": getattr(torch_layers, name)
        for name in ("FlattenExtractor", "NatureCNN", "CombinedExtractor")
    },
    **{
        f"torch.optim.{name.lower()}.{name}": getattr(torch.optim, name)
        for name in ("Adam", "AdamW", "RMSprop", "SGD")
    },
}
