"""The file ``README.md`` of a folder of JavaScript files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from trpo_deploy.export.targets.agreement import TOLERANCE
from trpo_deploy.export.targets.golden import Golden
from trpo_deploy.export.targets.web.interface import has_keys
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import Array

_MAX_EXAMPLE = 24  # numbers of an observation that an example shows


def readme_text(spec: PolicySpec, name: str, golden: Golden) -> str:
    """How to use and check the files."""
    frames = "\npolicy.reset(); // at the start of each episode" if spec.states else ""
    return f"""\
# {name}

A policy as JavaScript without dependencies: no WebAssembly, no build step, no request to a server.

| file | content |
|---|---|
| `{name}.js` | weights and the class `Policy`, as an ES module |
| `{name}.global.js` | the same as a script, which defines the global `{name}` |
| `{name}.d.ts` | types for TypeScript and editors |
| `package.json` | says to Node and bundlers that `{name}.js` is a module |
| `policy.json` | the policy's spec: spaces, inputs, outputs, origin |
| `golden.json` | the golden rows as JSON |
| `certificate.json` | how the files were compared with the trained policy, with their hashes |

## Call

```js
import {{ Policy }} from "./{name}.js";

const policy = new Policy();{frames}
const action = policy.act({_example(spec, golden)});
```

In a page that a server sends, load it as a module:

```html
<script type="module" src="main.js"></script>
```

Browsers load no modules in a page that is opened as a file (`file://`). There, load the script:

```html
<script src="{name}.global.js"></script>
<script src="main.js"></script>
```

```js
const policy = new {name}.Policy();
```

Both work under `Content-Security-Policy: default-src 'none'; script-src 'self'`.

## Check

`policy.selfTest()` returns the largest error over the golden rows, as a part of the action's range:
at most {TOLERANCE:g}, and 0 for discrete actions. `trpo-deploy verify SOURCE .` compares the module
with the policy on some thousand observations.

## Errors

Pass the raw observation. `act` throws a `TypeError` for a wrong type or key. It throws a
`RangeError` for a wrong length, for a number that is not finite or not in its range, and if the
network overflows.
"""


def _example(spec: PolicySpec, golden: Golden) -> str:
    """The first golden observation if it is short."""
    rows = {key: golden.observations[key][0] for key in spec.observation_spaces}
    if sum(each.size for each in rows.values()) > _MAX_EXAMPLE:
        return "observation"
    lists = {key: _rounded(each) for key, each in rows.items()}
    return json.dumps(lists if has_keys(spec) else next(iter(lists.values())))


def _rounded(values: Array) -> Any:
    return (values.astype(np.float64).round(4) if values.dtype.kind == "f" else values).tolist()
