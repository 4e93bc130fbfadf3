"""Rounding noise in a policy's weights, the yardstick for differences to its exported file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def weights_one_ulp_off(policy: nn.Module, rng: np.random.Generator) -> Iterator[None]:
    """Move each weight to one of its two neighbouring floats until the block ends."""
    weights = list(policy.parameters())
    before = [each.detach().clone() for each in weights]
    try:
        with torch.no_grad():
            for each in weights:
                up = torch.as_tensor(rng.random(tuple(each.shape)) < 0.5).to(each.device)
                bound = torch.where(up, torch.inf, -torch.inf).to(each.dtype)
                each.copy_(torch.nextafter(each, bound))
        yield
    finally:
        with torch.no_grad():
            for each, old in zip(weights, before, strict=True):
                each.copy_(old)
