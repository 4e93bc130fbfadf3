"""Keeps torch's compiler out of runs that do not use it."""

from __future__ import annotations

from inspect import unwrap

from torch.optim import Optimizer


def keep_dynamo_out() -> None:
    """Let optimizers work without ``torch._dynamo``, which only ``torch.compile`` needs.

    torch marks these methods as not to be compiled when they are first called, and imports
    ``torch._dynamo`` for that: 0.7 s of processor time and 70 MB, a sixth of a run's memory. They
    find the mark here already, and run as they are. ``Optimizer.step`` imports it in any case, but
    the standard MLP's critic does without.
    """
    for method in (Optimizer.add_param_group, Optimizer.load_state_dict, Optimizer.state_dict):
        function = unwrap(method)
        vars(function).setdefault("__dynamo_disable", function)
