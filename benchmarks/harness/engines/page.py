"""The results as a page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from harness.engines.case import BATCHES, STATES, Cell
from harness.engines.results import Results
from harness.report import markdown_table
from trpo_deploy.export.targets.agreement import TOLERANCE

LONGEST = 180
"""Characters of an engine's message in a note."""
_PLACES = re.compile(
    r"OpenCV\([^)]*\) \S+ error: \([^)]*\) |:\(onnx_node![^)]*\)|\"onnx_node![^\"]*\" |"
    r"in function '\w+' ?[>]? ?"
)
"""Parts of messages that tell a line of the engine's code or a node of one policy."""
ABOUT = """\
# Engines

Which engines run an exported `policy.onnx`, and how equal their results are, from a run on {date}.
`python benchmarks/engines.py` writes this page; do not edit it. A workflow runs the newest versions
each week and fails if a cell becomes worse.

Each policy gets {rows} random observations, in batches of {batches}. The results are compared with
those of the onnxruntime that this project installs. The
[certificate](export.md#the-certificate) compares that one with Stable-Baselines3.

- **A number**: equal. It is the largest error of a continuous action as a part of its range, or of
  another float output as a part of its size; at most {tolerance:g}. Integers are identical.
- **wrong**: the engine gives other results, and no error.
- **refuses**: the engine stops with an error.
- **not run**: the engine was missing on the machine.

The numbers after these words lead to the [notes](#notes). A guarded policy gets NaN in the last row
of each batch, and must give its safe action there.

Machine: {machine}.

## Summary

{summary}
*Other types*: the engine gives an output in another type than the file's.

How the engines were run:

- **OpenVINO** with `INFERENCE_PRECISION_HINT=f32`. By default it computes in bfloat16 on some
  processors, with errors of 1e-2.
- **OpenCV** with its module `dnn`. Version 4 takes every input as float32.
- **MNN** after its converter, with `precision_mode=High`. It has no 64-bit numbers: it takes
  float32 and int32, and gives int32 for int64. It does not detect NaN, so a guard does nothing in
  it. The command `mnnconvert` installs a package when it starts and uploads statistics, so this
  table calls `_tools.mnnconvert`, the function behind it.
- **onnxruntime-web** with its wasm backend, in Node. It gives int64 as `BigInt`, as does
  onnxruntime-node.
- **emx-onnx-cgen** with `--input-dim batch=1 --large-temp-threshold 0 --large-weight-threshold 0`,
  compiled with gcc. A batch is row after row.
- **Our C and JavaScript**: row after row. Their actions and `obs_ok` are compared. An observation
  that they refuse leaves the earlier frames as they are, while the file shifts them.
- **tract** from Python, which cannot read some integer outputs of a guarded policy.

## Check your own policy

The table has kinds of policies, not yours. To compare your file in OpenVINO, tract or OpenCV, use
`trpo-deploy verify SOURCE POLICY.onnx --engine openvino`. It takes all observations of the
certificate, also at the edges of the observation space: see [Engines](export.md#engines). For any
other engine, `trpo-deploy export SOURCE --golden FOLDER` writes inputs and expected outputs.
"""


def page(results: Results, engines: Sequence[str]) -> str:
    """The page, as Markdown.

    Args:
        results: All results.
        engines: Names of the columns.
    """
    notes: dict[str, int] = {}
    tables = "".join(
        f"\n## {title}\n\n{_matrix(results, kinds, engines, notes)}"
        for title, kinds in results.groups.items()
    )
    about = ABOUT.format(
        date=results.date,
        rows=sum(BATCHES),
        batches=", ".join(map(str, BATCHES)),
        tolerance=TOLERANCE,
        machine=results.machine,
        summary=_summary(results, engines),
    )
    listed = "".join(f"{number}. {note}\n" for note, number in notes.items())
    return f"{about}{tables}\n## Notes\n\n{listed}"


def _summary(results: Results, engines: Sequence[str]) -> str:
    header = ["engine", *STATES, "largest error of the equal", "other types"]
    rows = []
    for engine in engines:
        cells = [cell for _, cell in results.of(engine)]
        count = Counter(cell.state for cell in cells)
        errors = [cell.error for cell in cells if cell.state == "equal"]
        rows.append(
            [
                _title(engine, results),
                *(str(count[state]) for state in STATES),
                _number(max(errors)) if errors else "",
                ", ".join(results.types.get(engine, [])),
            ]
        )
    return markdown_table(header, rows)


def _matrix(
    results: Results, kinds: Sequence[str], engines: Sequence[str], notes: dict[str, int]
) -> str:
    header = ["policy", *(_title(engine, results) for engine in engines)]
    rows = [
        [kind, *(_cell(results.cell(kind, engine), engine, notes) for engine in engines)]
        for kind in kinds
    ]
    return markdown_table(header, rows)


def _title(engine: str, results: Results) -> str:
    """Name and version of an engine."""
    version = results.versions.get(engine)
    return f"{re.sub(r' [0-9.]+$', '', engine)} {version}" if version else engine


def _cell(cell: Cell, engine: str, notes: dict[str, int]) -> str:
    if cell.state == "equal":
        return _number(cell.error)
    message = _PLACES.sub("", cell.message).replace("`", "'")[:LONGEST]
    number = notes.setdefault(f"{engine}: `{message}`", len(notes) + 1)
    return f"**{cell.state}** {number}"


def _number(error: float) -> str:
    return f"{error:.0e}".replace("e-0", "e-") if error else "0"
