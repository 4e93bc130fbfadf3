"""Which vec-env wrappers lie between an array of the environment and the policy's array.

A policy zip has the space behind all wrappers, but does not list them. Stable-Baselines3 chooses
the axis of a frame stack, and whether to transpose, from the space in front of each wrapper. This
module applies its rules to each frame that the environment may have, and keeps the wrappers that
end at the policy's space.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Literal, TypeAlias

ImageLayout: TypeAlias = Literal["hwc", "chw"]
"""Axis order of an image: channels last or channels first."""
Place: TypeAlias = Literal["frame", "stack"]
"""What the normaliser takes: a frame, or a stack of frames."""
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class ArrayKind:
    """What Stable-Baselines3's wrappers look at in a space."""

    shape: Shape
    is_image: bool
    """As ``stable_baselines3.common.preprocessing.is_image_space``: three axes, uint8, 0 to 255."""

    @property
    def layout(self) -> ImageLayout:
        """The axis order that ``is_image_space_channels_first`` sees.

        Channels are first if that axis is the smallest, or as small as another. If the second is
        the smallest, SB3 warns and takes the last for the channels.
        """
        return "chw" if self.shape.index(min(self.shape)) == 0 else "hwc"


@dataclass(frozen=True)
class Wrappers:
    """Wrappers around an environment, in this order: normalise, stack, normalise, transpose.

    An earlier transposition is moved to the end: the axes of the others are those before it.
    """

    frame: ArrayKind
    """One observation of the environment."""
    stack_axis: int = -1
    """Axis of the frame along which frames are stacked."""
    transposed: bool = False
    """Whether channels-last images become channels-first."""
    place: Place = "frame"
    """Where the statistics apply."""
    transposed_statistics: bool = False
    """Whether the statistics were computed behind the transposition."""


@dataclass(frozen=True)
class Facts:
    """What is known about the wrappers."""

    n_stack: int = 1
    """Number of frames that are stacked; 1 without a stack."""
    statistics: Shape | None = None
    """Shape of the normaliser's mean; ``None`` without a normaliser."""
    frame: ArrayKind | None = None
    """The environment's array."""
    layout: ImageLayout | None = None
    """Axis order of the environment's images."""
    transposed: bool | None = None
    """Whether ``VecTransposeImage`` transposed the array; ``None`` if unknown."""
    stacks_by_default: bool = False
    """Whether ``VecFrameStack`` is known to have chosen the axis itself."""


def find_wrappers(policy: ArrayKind, facts: Facts, images: Collection[bool]) -> list[Wrappers]:
    """All wrappers that end at the policy's array and agree with the facts.

    Args:
        policy: The policy's array, behind all wrappers.
        facts: What is known. A frame or layout from which nothing leads to the policy's array is
            ignored.
        images: Whether the environment's array may be an image, and whether it may be none.
            ``VecNormalize`` makes images floats.

    Returns:
        Empty if there are none; several if the facts do not decide.
    """
    found: dict[Wrappers, bool] = {}
    for frame in _frames(policy, facts, images):
        for choices in _choices(facts):
            wrapped = choices.wrap(frame, facts)
            if wrapped is not None and wrapped.now == policy:
                usual = found.get(wrapped.wrappers, False) or choices.are_usual(facts)
                found[wrapped.wrappers] = usual
    kept = list(found)
    kept = [each for each in kept if each.frame == facts.frame] or kept
    kept = [each for each in kept if facts.transposed in (None, each.transposed)] or kept
    kept = [each for each in kept if found[each]] or kept
    if facts.layout is not None and all(each.frame.is_image for each in kept):
        kept = [each for each in kept if each.frame.layout == facts.layout] or kept
        kept = [each for each in kept if each.transposed == (facts.layout == "hwc")] or kept
        # Frames of an image are stacked along its channels; -1 without a stack.
        channels = 2 if facts.layout == "hwc" else 0
        kept = [each for each in kept if each.stack_axis in (-1, channels)] or kept
    return kept


def _frames(policy: ArrayKind, facts: Facts, images: Collection[bool]) -> set[ArrayKind]:
    """Frames that the environment may have; most lead to another array than the policy's."""
    shapes = [policy.shape]
    if len(policy.shape) == 3:
        shapes.append((*policy.shape[1:], policy.shape[0]))
    if facts.n_stack > 1:
        shapes = [
            (*shape[:axis], size // facts.n_stack, *shape[axis + 1 :])
            for shape in shapes
            for axis, size in enumerate(shape)
            if size % facts.n_stack == 0
        ]
    found = {ArrayKind(shape, is_image) for shape, is_image in product(shapes, images)}
    known = facts.frame
    if known is None or not known.shape or len(known.shape) != len(policy.shape):
        return found
    # VecNormalize changes the Dict space of an environment in memory, and so hides its images.
    return {*found, known} if known.is_image in images else found


@dataclass(frozen=True)
class _Wrapped:
    """An array behind some wrappers."""

    wrappers: Wrappers
    now: ArrayKind
    axes: tuple[int, ...]
    """Axis of the frame that each axis of the array was."""
    is_stacked: bool = False

    def normalize(self, *, keeps_images: bool) -> _Wrapped:
        wrappers = replace(
            self.wrappers,
            place="stack" if self.is_stacked else "frame",
            transposed_statistics=self.wrappers.transposed,
        )
        return replace(
            self,
            wrappers=wrappers,
            now=ArrayKind(self.now.shape, self.now.is_image and keeps_images),
        )

    def stack(self, n_stack: int, channels_first: bool | None) -> _Wrapped:
        if channels_first is None:
            channels_first = self.now.is_image and self.now.layout == "chw"
        axis = 0 if channels_first else len(self.now.shape) - 1
        shape = list(self.now.shape)
        shape[axis] *= n_stack
        return replace(
            self,
            wrappers=replace(self.wrappers, stack_axis=self.axes[axis]),
            now=ArrayKind(tuple(shape), self.now.is_image),
            is_stacked=True,
        )

    def transpose(self) -> _Wrapped:
        (height, width, channels), (first, second, third) = self.now.shape, self.axes
        return replace(
            self,
            wrappers=replace(self.wrappers, transposed=True),
            now=ArrayKind((channels, height, width), self.now.is_image),
            axes=(third, first, second),
        )

    @property
    def needs_transposition(self) -> bool:
        return self.now.is_image and self.now.layout == "hwc"


@dataclass(frozen=True)
class _Choices:
    """What users choose when they wrap an environment."""

    order: tuple[str, ...]
    """The wrappers, the innermost first."""
    channels_first: bool | None = None
    """``channels_order`` of ``VecFrameStack``; ``None`` leaves it to SB3."""
    normalized_images_stay_images: bool = False
    """``VecNormalize`` before SB3 1.7 did not change the space of images."""
    skips_transposition: bool = False
    """Whether there is a ``VecTransposeImage(skip=True)``, or no model around the policy."""

    def are_usual(self, facts: Facts) -> bool:
        """Whether SB3 chooses where it can, as far as that is known.

        It does not transpose normalised images, so users do that in front of the normaliser.
        """
        if self.channels_first is not None and facts.stacks_by_default:
            return False
        if "transpose" not in self.order:
            return True
        before = self.order[: self.order.index("transpose")]
        return "normalize" in self.order and "normalize" not in before

    def wrap(self, frame: ArrayKind, facts: Facts) -> _Wrapped | None:
        """Wrap an environment as Stable-Baselines3 does; ``None`` if it refuses."""
        found = _Wrapped(Wrappers(frame), frame, tuple(range(len(frame.shape))))
        for wrapper in self.order:
            if wrapper == "normalize":
                if found.now.shape != facts.statistics:
                    return None
                found = found.normalize(keeps_images=self.normalized_images_stay_images)
            elif wrapper == "stack":
                found = found.stack(facts.n_stack, self.channels_first)
            elif not found.needs_transposition:
                return None
            else:
                found = found.transpose()
        # BaseAlgorithm._wrap_env transposes, unless there is a VecTransposeImage already.
        if "transpose" in self.order or self.skips_transposition:
            return found
        return found.transpose() if found.needs_transposition else found


def _choices(facts: Facts) -> Iterator[_Choices]:
    names = ["stack"] * (facts.n_stack > 1) + ["normalize"] * (facts.statistics is not None)
    for order in (*permutations(names), *permutations([*names, "transpose"])):
        for channels_first, keeps in product((None, True, False), (False, True)):
            yield _Choices(order, channels_first, keeps)
            if "transpose" not in order:
                yield _Choices(order, channels_first, keeps, skips_transposition=True)
