"""Model folders that a service must refuse, each with words of its error."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.policy_files import ACTION_SPACES, OBSERVATION_SPACES, box, write_policy
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.policy_spec import METADATA_KEY

Make: TypeAlias = Callable[[Path], object]
"""Writes the files of a model into its empty folder."""


@dataclass(frozen=True)
class BadFile:
    make: Make
    words: str


def policy(folder: Path, **options: Any) -> Path:
    return write_policy(folder / "policy.onnx", **options)


def certificate(folder: Path, **changes: Any) -> Path:
    """A policy with a certificate that differs from a good one."""
    file = policy(folder)
    value = {"verdict": "pass", "sha256": {"policy.onnx": OnnxPolicy(file).sha256}, **changes}
    return write_certificate(folder, json.dumps(value))


def write_certificate(folder: Path, text: str) -> Path:
    (folder / "certificate.json").write_text(text)
    return folder


def raw_certificate(text: str) -> Make:
    def make(folder: Path) -> None:
        policy(folder)
        write_certificate(folder, text)

    return make


def spec(*path: str | int, value: Any) -> Make:
    """A policy with one value of its spec replaced."""

    def make(folder: Path) -> None:
        file = policy(folder)
        replaced = json.loads(OnnxPolicy(file).spec.to_json())
        inner = replaced
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        write_spec(file, json.dumps(replaced))

    return make


def write_spec(file: Path, text: str) -> None:
    model = onnx.load(str(file))
    del model.metadata_props[:]
    helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, str(file))


def action_space(value: dict[str, Any]) -> Make:
    return spec("action_space", value=value)


def box_spec(**changes: Any) -> Make:
    space = {"kind": "box", "shape": [4], "dtype": "float32", "low": "-inf", "high": "inf"}
    return spec("observation_space", value={**space, **changes})


def graph(change: Callable[[onnx.ModelProto], object]) -> Make:
    """A policy whose graph is changed."""

    def make(folder: Path) -> None:
        file = policy(folder)
        model = onnx.load(str(file))
        change(model)
        file.write_bytes(model.SerializeToString())

    return make


def content(data: bytes) -> Make:
    return lambda folder: (folder / "policy.onnx").write_bytes(data)


def truncated(folder: Path) -> None:
    file = policy(folder)
    file.write_bytes(file.read_bytes()[:-100])


def sparse(name: str, size: int) -> Make:
    def make(folder: Path) -> None:
        policy(folder)
        os.truncate(write_certificate(folder, "") / name, size)

    return make


def fifo(name: str) -> Make:
    def make(folder: Path) -> None:
        if name != "policy.onnx":
            policy(folder)
        os.mkfifo(folder / name)

    return make


def unix_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        before = os.getcwd()
        os.chdir(folder)  # the whole path may be too long for a socket
        bound.bind("policy.onnx")
        os.chdir(before)


def link(name: str, target: str) -> Make:
    def make(folder: Path) -> None:
        if name != "policy.onnx":
            policy(folder)
        (folder / name).symlink_to(target)

    return make


def folder_named(name: str) -> Make:
    def make(folder: Path) -> None:
        if name != "policy.onnx":
            policy(folder)
        (folder / name).mkdir()

    return make


def add_loop(model: onnx.ModelProto) -> None:
    """A loop whose number of turns is the observation."""
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), condition],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, [])],
    )
    maximum = numpy_helper.from_array(np.array(2**62, np.int64), "maximum")
    yes = numpy_helper.from_array(np.array(True), "yes")
    model.graph.initializer.extend([maximum, yes])
    model.graph.node.append(helper.make_node("Loop", ["maximum", "yes"], [], body=body))


def add_branch(model: onnx.ModelProto) -> None:
    output = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])
    one = helper.make_node("Constant", [], ["o"], value_floats=[1.0])
    branch = helper.make_graph([one], "branch", [], [output])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    node = helper.make_node("If", ["yes"], ["p"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def add_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["a"], ["b"])
    opset = [helper.make_opsetid("", 13)]
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [node], opset))
    model.opset_import.append(helper.make_opsetid("own", 1))


def add_foreign_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    node = helper.make_node("Anything", ["obs"], ["q"], domain="com.example")
    model.graph.node.append(node)


def move_weights_to_a_file(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


def remove_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "other"


def accept_one_row_only(model: onnx.ModelProto) -> None:
    shape = next(node for node in model.graph.node if node.op_type == "Reshape")
    constant = next(item for item in model.graph.initializer if item.name == shape.input[1])
    constant.CopyFrom(numpy_helper.from_array(np.array([1, 4], np.int64), constant.name))


def ask_for_a_petabyte(model: onnx.ModelProto) -> None:
    """Memory in an amount that depends on nothing a parser sees."""
    size = numpy_helper.from_array(np.array([2**24, 2**24], np.int64), "size")
    model.graph.initializer.append(size)
    zero = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["big"], value=zero))
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0))
    model.graph.node.insert(2, helper.make_node("Add", ["obs", "sum"], ["obs_and_sum"]))
    for node in model.graph.node[3:]:
        node.input[:] = ["obs_and_sum" if name == "obs" else name for name in node.input]


def nan_action(model: onnx.ModelProto) -> None:
    for item in model.graph.initializer:
        array = numpy_helper.to_array(item)
        if array.dtype == np.float32 and array.ndim == 2:
            item.CopyFrom(numpy_helper.from_array(array * np.float32("nan"), item.name))


DEEP = "[" * 100_000
SURROGATE = "\ud800"
GOLDEN: dict[str, Any] = {"observation": [1.0, 2.0, 3.0, 4.0], "action": [0.0, 0.0]}

BAD_FILES: dict[str, BadFile] = {
    "empty": BadFile(content(b""), "ONNX file"),
    "text": BadFile(content(b"nothing"), "ONNX file"),
    "zeros": BadFile(content(bytes(1000)), "ONNX file"),
    "truncated": BadFile(truncated, "ONNX file"),
    "zip": BadFile(content(b"PK\x03\x04" + bytes(100)), "ONNX file"),
    "pointer": BadFile(content(b"version https://git-lfs.github.com/spec/v1\n"), "ONNX file"),
    "sparse": BadFile(sparse("policy.onnx", 20 * 2**30), "expected at most"),
    "fifo": BadFile(fifo("policy.onnx"), "FIFO"),
    "socket": BadFile(unix_socket, "socket"),
    "device": BadFile(link("policy.onnx", "/dev/zero"), "device"),
    "folder": BadFile(folder_named("policy.onnx"), "a folder"),
    "dangling": BadFile(link("policy.onnx", "nowhere"), "cannot read"),
    "itself": BadFile(link("policy.onnx", "policy.onnx"), "cannot read"),
    "certificate-fifo": BadFile(fifo("certificate.json"), "FIFO"),
    "certificate-device": BadFile(link("certificate.json", "/dev/zero"), "device"),
    "certificate-folder": BadFile(folder_named("certificate.json"), "a folder"),
    "certificate-dangling": BadFile(link("certificate.json", "nowhere"), "cannot read"),
    "certificate-sparse": BadFile(sparse("certificate.json", 2**33), "expected at most"),
    "certificate-empty": BadFile(raw_certificate(""), "certificate"),
    "certificate-list": BadFile(raw_certificate("[]"), "JSON object"),
    "certificate-deep": BadFile(raw_certificate(DEEP), "cannot be read"),
    "certificate-nan": BadFile(raw_certificate('{"verdict": NaN}'), "NaN is not JSON"),
    "certificate-nothing": BadFile(raw_certificate("{}"), "is not a certificate"),
    "certificate-fail": BadFile(lambda f: certificate(f, verdict="fail"), "trained policy"),
    "certificate-other": BadFile(
        lambda f: certificate(f, sha256={"policy.onnx": "0" * 64}), "another file"
    ),
    "certificate-huge-number": BadFile(lambda f: certificate(f, steps=10**30), "cannot show"),
    "certificate-surrogate": BadFile(lambda f: certificate(f, note=SURROGATE), "cannot show"),
    "certificate-nested": BadFile(
        lambda f: certificate(f, deep=json.loads("[" * 300 + "]" * 300)), "cannot show"
    ),
    "golden-other": BadFile(
        lambda f: certificate(f, golden={**GOLDEN, "action": [9, 9]}), "golden action"
    ),
    "golden-huge": BadFile(
        lambda f: certificate(f, golden={**GOLDEN, "action": [10**30, 0]}), "golden"
    ),
    "golden-overflow": BadFile(
        lambda f: certificate(f, golden={**GOLDEN, "action": [10**400, 0]}), "golden"
    ),
    "golden-numbers-as-text": BadFile(
        lambda f: certificate(f, golden={**GOLDEN, "action": [str(x) for x in GOLDEN["action"]]}),
        "golden sample",
    ),
    "golden-text": BadFile(lambda f: certificate(f, golden="all"), "golden"),
    "spec-missing": BadFile(lambda f: policy(f, metadata=""), "metadata"),
    "spec-text": BadFile(lambda f: policy(f, metadata="{"), "spec"),
    "spec-deep": BadFile(lambda f: policy(f, metadata=DEEP), "spec"),
    "spec-list": BadFile(lambda f: policy(f, metadata="[]"), "spec"),
    "spec-newer": BadFile(spec("format_version", value=99), "format version 99"),
    "spec-name": BadFile(spec("outputs", 0, "name", value={}), "spec"),
    "spec-empty-name": BadFile(spec("outputs", 0, "name", value=""), "spec"),
    "spec-surrogate": BadFile(spec("algorithm", value=SURROGATE), "spec"),
    "spec-huge-number": BadFile(spec("training", value={"timesteps": 10**400}), "spec"),
    "spec-huge-text": BadFile(spec("algorithm", value="A" * 2**20), "spec"),
    "discrete-of-none": BadFile(action_space({"kind": "discrete", "n": 0, "start": 0}), "Discrete"),
    "discrete-beyond": BadFile(
        action_space({"kind": "discrete", "n": 2, "start": 2**63 - 1}), "Discrete"
    ),
    "low-above-high": BadFile(box_spec(low=1, high=-1), "low"),
    "shape-of-terabytes": BadFile(box_spec(shape=[10**13]), "shape"),
    "negative-shape": BadFile(box_spec(shape=[-1]), "shape"),
    "object-dtype": BadFile(box_spec(dtype="object"), "dtype"),
    "loop": BadFile(graph(add_loop), "control flow"),
    "branch": BadFile(graph(add_branch), "control flow"),
    "function": BadFile(graph(add_function), "operators"),
    "foreign-operator": BadFile(graph(add_foreign_operator), "operators"),
    "external-data": BadFile(graph(move_weights_to_a_file), "another file"),
    "no-outputs": BadFile(graph(remove_outputs), "lacks the outputs"),
    "renamed-input": BadFile(graph(rename_input), ""),
    "one-row": BadFile(graph(accept_one_row_only), "cannot be run"),
    "petabyte": BadFile(graph(ask_for_a_petabyte), ""),
    "nan-action": BadFile(graph(nan_action), "outside its space"),
    "other-spaces": BadFile(spec("observation_space", value=box(5).to_json()), "input"),
    "other-action": BadFile(
        spec("action_space", value=ACTION_SPACES["discrete"].to_json()), "returns actions"
    ),
    "keys": BadFile(
        spec("observation_space", value=OBSERVATION_SPACES["dict"].to_json()), "inputs"
    ),
}
"""By the name of the folder. All are refused at a first load."""


def write_bad_file(root: Path, name: str) -> Path:
    """Write one of :data:`BAD_FILES` as a model folder of its name; it appears complete."""
    hidden = root / f".{name}"
    hidden.mkdir(parents=True)
    BAD_FILES[name].make(hidden)
    return hidden.rename(root / name)
