"""The reply to an infer request: JSON, followed by raw tensors where the client asked for them."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import orjson

from trpo_deploy.serve.messages import OCTETS, Reply
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.inference_v2.datatypes import DATATYPE_OF
from trpo_deploy.serve.protocols.inference_v2.request import JSON_LENGTH_HEADER
from trpo_deploy.serve.protocols.json_io import dump_array
from trpo_deploy.spec.spaces import Array, Json


def make_reply(
    model: ServedModel, request_id: str | None, outputs: dict[str, bool], arrays: list[Array]
) -> Reply:
    """Encode the outputs of a run.

    Args:
        model: The model that ran.
        request_id: The request's ``id``, which the reply repeats.
        outputs: Names of the outputs, and whether each is sent as raw bytes.
        arrays: The values of ``outputs``, in the same order.
    """
    chunks = []
    described = []
    for (name, binary), array in zip(outputs.items(), arrays, strict=True):
        text = _describe_output(name, array.dtype, array.shape, binary)
        if binary:
            chunks.append(array.tobytes())
        else:
            text += dump_array(array.ravel()) + b"}"
        described.append(text)
    tail = b"" if request_id is None else b',"id":' + orjson.dumps(request_id)
    header = b'%b,"outputs":[%b]%b}' % (model.v2_head, b",".join(described), tail)
    if not chunks:
        return Reply(header, model.name)
    length = ((JSON_LENGTH_HEADER, b"%d" % len(header)),)
    return Reply(b"".join([header, *chunks]), model.name, content_type=OCTETS, headers=length)


@lru_cache(256)  # a control loop asks for the same outputs each time
def _describe_output(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], binary: bool
) -> bytes:
    """An output as JSON; if it is not binary, up to the start of its numbers."""
    item: Json = {"name": name, "datatype": DATATYPE_OF[dtype], "shape": shape}
    if binary:
        item["parameters"] = {"binary_data_size": dtype.itemsize * prod(shape)}
        return orjson.dumps(item)
    return orjson.dumps(item)[:-1] + b',"data":'
