"""The statistics of ``VecNormalize`` that belong to a policy zip.

These names are known:

- ``PREFIX_vecnormalize_N_steps.pkl`` beside ``PREFIX_N_steps.zip``: SB3's ``CheckpointCallback``,
- ``vec_normalize.pkl`` and ``vecnormalize.pkl`` beside the zip: SB3's examples, the Hugging Face
  Hub and our own model folders,
- ``vecnormalize.pkl`` in the folder of RL Zoo's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.names import ZIP, stem

_NAMES = ("vecnormalize.pkl", "vec_normalize.pkl")
_CHECKPOINT = re.compile(r"(.*_)(\d+_steps)", re.DOTALL)


def is_checkpoint(policy_zip: Path) -> bool:
    """Whether the name is one that ``CheckpointCallback`` gives: ``PREFIX_N_steps.zip``."""
    return _CHECKPOINT.fullmatch(stem(policy_zip, ZIP)) is not None


def find_statistics(policy_zip: Path, folders: Sequence[Path]) -> Path | None:
    """The statistics of a policy zip; ``None`` if there are none.

    Those of the same checkpoint come first. All others are of the end of the training or of its
    best evaluation.

    Args:
        policy_zip: The policy zip.
        folders: Folders with the configuration of its run, as far as they are known.

    Raises:
        ModelDirError: There are several.
    """
    checkpoint = _CHECKPOINT.fullmatch(stem(policy_zip, ZIP))
    if checkpoint is not None:
        own = policy_zip.with_name(f"{checkpoint[1]}vecnormalize_{checkpoint[2]}.pkl")
        if own.is_file():
            return own
    places = dict.fromkeys((policy_zip.parent, *folders))
    found = [path for place in places for name in _NAMES if (path := place / name).is_file()]
    if len(found) > 1:
        raise ModelDirError(
            f"the statistics of {policy_zip} may be {' or '.join(map(str, found))}; name them with "
            "--vecnormalize FILE, or move the others to another folder"
        )
    return found[0] if found else None
