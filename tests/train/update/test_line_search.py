"""The line search takes the longest step that improves inside the trust region."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trpo_deploy.train.update.line_search import LineSearch, line_search


def search(
    evaluate: Callable[[float], tuple[float, float]], start: float = 0.0
) -> tuple[float, LineSearch]:
    """A line search over one number, from ``start``, with a full step of one."""
    parameter = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))

    def at() -> tuple[Tensor, Tensor]:
        surrogate, kl = evaluate(parameter.item())
        return torch.tensor(surrogate), torch.tensor(kl)

    found = line_search([parameter], torch.ones(1).double(), at, torch.tensor(0.0), 0.01, 0.5, 10)
    return parameter.item(), found


def test_the_longest_step_inside_is_taken() -> None:
    position, found = search(lambda x: (x, 0.1 * x * x))
    # 0.1 x^2 < 0.01 first holds at a quarter: 0.025 at a half, 0.00625 at a quarter
    assert position == 0.25
    assert found.step == 0.25


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda x: (-x, 0.0),  # never improves
        lambda _: (0.0, 0.0),  # never strictly improves
        lambda x: (x, 1.0),  # never inside
        lambda x: (x, 0.01),  # never strictly inside
        lambda _: (float("nan"), 0.0),
        lambda x: (x, float("nan")),
    ],
)
def test_a_failed_line_search_leaves_the_parameters_untouched(
    evaluate: Callable[[float], tuple[float, float]],
) -> None:
    start = 0.1 + 0.2  # not a round number: every bit must be restored
    position, found = search(evaluate, start)
    assert position == start
    assert found.step == 0
