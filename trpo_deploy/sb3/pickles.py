"""Read pickles as inert records, without calling anything that they name.

Ordinary unpickling calls whatever the file names. Here each object becomes a :class:`Record` of
its name, arguments and state. A short table (:data:`_BUILDERS`) then makes spaces, arrays and
statistics from the records that it knows. A file with any other name is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
from gymnasium import spaces
from stable_baselines3.common import torch_layers
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import nn

from trpo_deploy.errors import PolicyZipError, UnsafePickleError
from trpo_deploy.sb3 import squashed as squashing
from trpo_deploy.sb3.activations import ACTIVATIONS

VECNORMALIZE = "stable_baselines3.common.vec_env.vec_normalize.VecNormalize"


class Record:
    """An object in a pickle: the name of its class, its arguments and its state."""

    name: str

    def __init__(self, *args: object) -> None:
        self.args = args
        self.state: Any = {}
        self.items: dict[object, object] = {}
        self.elements: list[object] = []

    def __setstate__(self, state: object) -> None:
        # copyreg writes (dict, slots) for some classes; only the dict is needed here.
        self.state = state[0] if isinstance(state, tuple) and len(state) == 2 else state

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value

    def append(self, value: object) -> None:
        """Collect an element of a deque."""
        self.elements.append(value)


Classes: TypeAlias = Mapping[str, type]
"""Classes that a pickle may name, by full name. They are never instantiated here."""


def decode(content: bytes, where: str, allowed: Classes | None = None) -> Any:
    """Decode a pickle of plain values and of objects that :data:`_BUILDERS` can make.

    Args:
        content: The pickle.
        where: Its origin, for messages.
        allowed: Further classes that it may name.

    Raises:
        PolicyZipError: The pickle is damaged or inconsistent.
        UnsafePickleError: It refers to a name outside the allow-list.
    """
    try:
        resolver = _Resolver(allowed or {}, len(content))
        return resolver.resolve(_load(content, allowed or {}))
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{where}: {error}") from error
    except PolicyZipError as error:
        raise PolicyZipError(f"{where}: {error}") from error
    except Exception as error:  # damaged pickles raise nearly every built-in exception
        raise PolicyZipError(f"{where} cannot be decoded ({error!r})") from error


def decode_state(
    content: bytes, name: str, entries: Iterable[str], allowed: Classes
) -> dict[str, Any] | None:
    """Some entries of a pickled object's state; ``None`` if its class has another name.

    See :func:`decode`.

    Raises:
        UnsafePickleError: The pickle refers to a name outside the allow-list.
    """
    record = _load(content, allowed)
    if not isinstance(record, Record) or record.name != name:
        return None
    resolver = _Resolver(allowed, len(content))
    return {key: resolver.resolve(record.state[key]) for key in entries if key in record.state}


class _Reader(pickle.Unpickler):
    """An unpickler that replaces every global with a new, inert subclass of :class:`Record`."""

    def __init__(self, content: bytes, allowed: Classes) -> None:
        super().__init__(io.BytesIO(content))
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> type[Record]:
        full = _canonical(f"{module}.{name}")
        known = full in _BUILDERS or full in _CLASSES or full in self._allowed
        if not (known or full.startswith(_IGNORED)):
            raise UnsafePickleError(
                f"the pickle refers to {module}.{name}, which is not on the allow-list; "
                "none of its code was run"
            )
        return type(full, (Record,), {"name": full})


def _load(content: bytes, allowed: Classes) -> object:
    for opcode, argument, _ in pickletools.genops(content):
        # The unpickler would allocate memory for all indices up to this one.
        if opcode.name.endswith("PUT") and int(argument or 0) > len(content):
            raise PolicyZipError(
                f"the pickle gives an object the index {argument}, more than it can contain"
            )
    return _Reader(content, allowed).load()


def _canonical(name: str) -> str:
    """The current name of what older versions of a library name differently."""
    name = re.sub(r"^gym\.", "gymnasium.", name)
    name = re.sub(r"^trpo_deploy\.policies\.", "trpo_deploy.sb3.squashed.", name)
    return re.sub(r"^numpy\.core\.", "numpy._core.", name)


_MOST_COPIES = 8
"""Two shallow copies of a Box share their arrays in a pickle, and make six arrays of two."""


class _Resolver:
    """Makes objects from records, also inside containers.

    Each container is visited once. A few bytes of a pickle can nest one list in itself many
    times, which would otherwise expand to more than fits into memory.
    Arrays together may have :data:`_MOST_COPIES` times the size of the pickle: many records can
    refer to the same bytes, and each becomes an array of its own.
    """

    def __init__(self, allowed: Classes, size: int) -> None:
        self._allowed = allowed
        self._bytes_left = _MOST_COPIES * size
        self._seen: dict[
            int, tuple[object, Any]
        ] = {}  # keeps the objects alive, so ids stay unique

    def resolve(self, value: object) -> Any:
        if not isinstance(value, (Record, dict, list, tuple, type)):
            return value
        if id(value) not in self._seen:
            self._seen[id(value)] = (value, None)  # a container that contains itself has None there
            self._seen[id(value)] = (value, self._made(value))
        return self._seen[id(value)][1]

    def _made(self, value: Record | dict[Any, Any] | list[Any] | tuple[Any, ...] | type) -> Any:
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(item) for item in value)
        if isinstance(value, Record):
            if value.name.startswith(_IGNORED):
                return None
            builder = _BUILDERS.get(value.name) or _space_builder(self._allowed.get(value.name))
            if builder is None:
                raise UnsafePickleError(f"an instance of {value.name} is not on the allow-list")
            return self._counted(builder(value, self.resolve))
        if value.__name__.startswith(_IGNORED):
            return None
        for classes in (self._allowed, _CLASSES):
            if value.__name__ in classes:
                return classes[value.__name__]
        raise UnsafePickleError(f"the class {value.__name__} is not on the allow-list")

    def _counted(self, made: Any) -> Any:
        arrays = (made.low, made.high) if isinstance(made, spaces.Box) else (made,)
        self._bytes_left -= sum(each.nbytes for each in arrays if isinstance(each, np.ndarray))
        if self._bytes_left < 0:
            raise PolicyZipError("its arrays are together far larger than the pickle")
        return made


Resolve: TypeAlias = Callable[[object], Any]


def _dtype(record: Record, _: Resolve) -> np.dtype[Any]:
    code = record.args[0]
    if not isinstance(code, str) or not re.fullmatch(r"[biuf]\d{1,2}", code):
        raise UnsafePickleError(f"arrays of dtype {code!r} are not on the allow-list")
    # (3, '<', ...): the byte order; '|' where there is none
    order = record.state[1] if record.state else "="
    return np.dtype(f"{order}{code}")


def _array(record: Record, resolve: Resolve) -> np.ndarray[Any, Any]:
    """An array of ``_reconstruct``; its state is (version, shape, dtype, is_fortran, bytes)."""
    _, shape, dtype, is_fortran, content = record.state
    array = np.frombuffer(content, resolve(dtype))
    return array.reshape(shape, order="F" if is_fortran else "C").copy()


def _array_of_buffer(record: Record, resolve: Resolve) -> np.ndarray[Any, Any]:
    """An array of protocol 5: ``_frombuffer(bytes, dtype, shape, order, axis_order)``.

    The order is ``"C"``, ``"F"``, or ``"K"`` for a transposed array: the shape is then that in
    memory, and ``axis_order`` transposes it. NumPy before 2.3 writes four arguments.
    """
    content, dtype, shape, order, *axes = cast(tuple[Any, ...], record.args)
    flat = np.frombuffer(content, resolve(dtype))
    if order == "K":
        return flat.reshape(shape).transpose(*axes).copy()
    return flat.reshape(shape, order=order).copy()


def _scalar(record: Record, resolve: Resolve) -> Any:
    dtype, content = cast(tuple[Any, ...], record.args)
    return np.frombuffer(content, resolve(dtype))[0]


def _field(record: Record, resolve: Resolve, *names: str) -> Any:
    """The first of the names that the state has; gym and gymnasium differ in underscores."""
    for name in names:
        if name in record.state:
            return resolve(record.state[name])
    raise PolicyZipError(f"a pickled {record.name} lacks {names[0]!r}")


def _box(record: Record, resolve: Resolve) -> spaces.Box:
    low, high = _field(record, resolve, "low"), _field(record, resolve, "high")
    return spaces.Box(low, high, dtype=low.dtype)


def _discrete(record: Record, resolve: Resolve) -> spaces.Discrete:
    # gym before 0.22 had no start
    start = resolve(record.state.get("start", 0))
    return spaces.Discrete(int(_field(record, resolve, "n")), start=int(start))


def _multi_discrete(record: Record, resolve: Resolve) -> spaces.MultiDiscrete:
    nvec = _field(record, resolve, "nvec")
    start = resolve(record.state.get("start"))
    return spaces.MultiDiscrete(nvec, start=start)


def _multi_binary(record: Record, resolve: Resolve) -> spaces.MultiBinary:
    n = _field(record, resolve, "n")
    return spaces.MultiBinary(int(n) if np.ndim(n) == 0 else list(n))


def _dict_space(record: Record, resolve: Resolve) -> spaces.Dict:
    # In the order of the pickle, which is the order of the features.
    return spaces.Dict(list(_field(record, resolve, "spaces").items()))


def _ordered_dict(record: Record, resolve: Resolve) -> dict[Any, Any]:
    pairs = cast(Any, record.args[0]) if record.args else []
    return {resolve(key): resolve(item) for key, item in [*pairs, *record.items.items()]}


def _deque(record: Record, resolve: Resolve) -> list[Any]:
    return [resolve(each) for each in record.elements]


def _running_mean_std(record: Record, resolve: Resolve) -> RunningMeanStd:
    mean = np.asarray(_field(record, resolve, "mean"), np.float64)
    statistics = RunningMeanStd(shape=mean.shape)
    statistics.mean = mean
    statistics.var = np.asarray(_field(record, resolve, "var"), np.float64)
    statistics.count = float(_field(record, resolve, "count"))
    if statistics.var.shape != mean.shape:
        raise ValueError("mean and variance differ in shape")
    return statistics


def _only_inside(record: Record, _: Resolve) -> Any:
    raise UnsafePickleError(f"{record.name} is not allowed here")


_BUILDERS: dict[str, Callable[[Record, Resolve], Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.deque": _deque,
    "gymnasium.spaces.box.Box": _box,
    "gymnasium.spaces.dict.Dict": _dict_space,
    "gymnasium.spaces.discrete.Discrete": _discrete,
    "gymnasium.spaces.multi_binary.MultiBinary": _multi_binary,
    "gymnasium.spaces.multi_discrete.MultiDiscrete": _multi_discrete,
    "numpy._core.multiarray._reconstruct": _array,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _only_inside,
    "stable_baselines3.common.running_mean_std.RunningMeanStd": _running_mean_std,
    VECNORMALIZE: _only_inside,
}


def _space_builder(space: type | None) -> Callable[[Record, Resolve], Any] | None:
    """Makes an instance of the Gymnasium space from which a user's space derives.

    Their bounds, shape and dtype are all that a policy needs.
    """
    for base, builder in _SPACE_BUILDERS.items():
        if space is not None and issubclass(space, base):
            return builder
    return None


_SPACE_BUILDERS: dict[type[spaces.Space[Any]], Callable[[Record, Resolve], Any]] = {
    spaces.Box: _box,
    spaces.Dict: _dict_space,
    spaces.Discrete: _discrete,
    spaces.MultiBinary: _multi_binary,
    spaces.MultiDiscrete: _multi_discrete,
}

# Random states and optimisers are not needed; their records are skipped.
_IGNORED = (
    "numpy.random.",
    "gymnasium.utils.seeding.",
    "torch.optim.",
    "stable_baselines3.common.sb2_compat.",
)

_CLASSES: dict[str, type] = {
    **{f"torch.nn.modules.activation.{name}": getattr(nn, name) for name in ACTIVATIONS},
    "torch.nn.modules.linear.Identity": nn.Identity,
    **{f"stable_baselines3.common.policies.{each.__name__}": each for each in squashing.SQUASHED},
    **{f"{each.__module__}.{each.__name__}": each for each in squashing.SQUASHED.values()},
    **{
        f"stable_baselines3.common.torch_layers.{name}": getattr(torch_layers, name)
        for name in ("FlattenExtractor", "NatureCNN", "CombinedExtractor")
    },
}
