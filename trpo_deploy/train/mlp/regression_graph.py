"""The critic's regression as one ONNX graph."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from trpo_deploy.train.mlp.activation_kernels import ActivationKernels
from trpo_deploy.train.mlp.dense_network import DenseLayer, DenseNetwork


def regression_graph(critic: DenseNetwork, *, clipped: bool) -> str:
    """The regression of a dense critic as ONNX text.

    One Scan over the mini-batches carries the parameters and Adam's two sums, each as a flat
    vector.

    Args:
        critic: The critic's network.
        clipped: Whether the graph clips gradients; it then has the input ``max_norm``.
    """
    lengths = [parameter.numel() for parameter in critic.parameters]
    n = sum(lengths)
    body = "\n".join([*_gradient(critic), *(_CLIP if clipped else _NO_CLIP), *_ADAM])
    constants = [line for i, layer in enumerate(critic.layers) for line in _constants(i, layer)]
    return f"""<ir_version: 8, opset_import: ["" : 17]>
regression (
  float[samples, inputs] features, float[samples, 1] returns, float[samples, 1] ones,
  int64[draws] order, int64[steps, 1] start, int64[steps, 1] end, float[steps] two_over_rows,
  float[steps] length, float[steps] eps, float beta1, float beta2,
  {"float max_norm," if clipped else ""}
  float[{n}] theta, float[{n}] exp_avg, float[{n}] exp_avg_sq
) => (
  float[{n}] theta_out, float[{n}] exp_avg_out, float[{n}] exp_avg_sq_out, float[steps] squares
) <
  int64[1] flat = {{-1}},
  {", ".join(constants)},
  int64[{len(lengths)}] lengths = {{{", ".join(map(str, lengths))}}}
> {{
  theta_out, exp_avg_out, exp_avg_sq_out, squares =
    Scan(theta, exp_avg, exp_avg_sq, start, end, two_over_rows, length, eps) <
      num_scan_inputs = 5,
      body = mini_batch (float[{n}] p, float[{n}] m, float[{n}] v,
        int64[1] from, int64[1] to, float two_over_rows_now, float length_now, float eps_now)
        => (float[{n}] p_out, float[{n}] m_out, float[{n}] v_out, float square) {{
{body}
      }}
    >
}}"""


def _constants(i: int, layer: DenseLayer) -> list[str]:
    """Shapes and numbers that the lines of layer i need."""
    if isinstance(layer.transform, nn.Linear):
        outputs, inputs = layer.transform.weight.shape
        return [f"int64[2] shape{i} = {{{outputs}, {inputs}}}"]
    if i == 0:
        return []  # onnxruntime warns of those without a use
    width = layer.transform.normalized_shape[0]
    return [f"int64[2] column{i} = {{{width}, 1}}", f"float width{i} = {{{width}.0}}"]


def _gradient(critic: DenseNetwork) -> list[str]:
    """Lines that compute ``raw``, the gradient of the mini-batch's mean squared error.

    Layer i maps ``h{i}`` to ``z{i}`` by its transform and to ``h{i + 1}`` by its activation.
    ``e{i}`` is the gradient of ``h{i}``, ``d{i}`` that of ``z{i}``.
    """
    layers = range(len(critic.layers))
    last = layers[-1]
    lines = [
        "rows = Slice(order, from, to)",
        "h0 = Gather(features, rows)",
        "y = Gather(returns, rows)",
        "ones_now = Gather(ones, rows)",
        ", ".join(f"w{i}_flat, b{i}" for i in layers) + " = Split(p, lengths)",
    ]
    for i, layer in enumerate(critic.layers):
        lines += [line.format(i=i, eps=_eps(layer)) for line in _lines_of(layer).forward]
        if i < last:
            names = {"h": f"h{i + 1}", "z": f"z{i}"}
            onnx = ("{h} = Identity({z})",) if layer.activation is None else layer.activation.onnx
            lines += [line.format(**names) for line in onnx]
    lines += [
        f"error = Sub(z{last}, y)",
        "square = ReduceSumSquare<keepdims = 0>(error)",
        f"d{last} = Mul(error, two_over_rows_now)",
    ]
    for i in reversed(layers):
        of_layer = _lines_of(critic.layers[i])
        lines += [line.format(i=i) for line in (*of_layer.parameters, *_FLAT)]
        if i > 0:
            lines += [line.format(i=i) for line in of_layer.backward]
            lines += _through_activation(i, critic.layers[i - 1].activation)
    parts = ", ".join(f"gw{i}_flat, gb{i}_flat" for i in layers)
    return [*lines, f"raw = Concat<axis = 0>({parts})"]


def _through_activation(i: int, activation: ActivationKernels | None) -> list[str]:
    """Lines from the gradient of the input of layer i to that before the activation."""
    if activation is None:
        return [f"d{i - 1} = Identity(e{i})"]
    names = {"h": f"h{i}", "z": f"z{i - 1}", "slope": f"slope{i}"}
    slope = [line.format(**names) for line in activation.onnx_slope]
    return [*slope, f"d{i - 1} = Mul(e{i}, slope{i})"]


class _Lines(NamedTuple):
    """ONNX text of a transform."""

    forward: tuple[str, ...]
    parameters: tuple[str, ...]
    """The gradients ``gw{i}`` and ``gb{i}``."""
    backward: tuple[str, ...]


# A product with ones sums in a third of ReduceSum's time.
_BIAS = "gb{i} = Gemm<transA = 1>(d{i}, ones_now)"
_FLAT = ("gw{i}_flat = Reshape(gw{i}, flat)", "gb{i}_flat = Reshape(gb{i}, flat)")
_LINEAR = _Lines(
    forward=(
        "w{i} = Reshape(w{i}_flat, shape{i})",
        "z{i} = Gemm<transB = 1>(h{i}, w{i}, b{i})",
    ),
    parameters=("gw{i} = Gemm<transA = 1>(d{i}, h{i})", _BIAS),
    backward=("e{i} = MatMul(d{i}, w{i})",),
)
# With n the normalized rows and u = w d, the gradient is scale (u - mean(u) - n mean(n u)); the
# means are products with w / width.
_NORM = _Lines(
    forward=(
        "z{i}, mean{i}, scale{i} = "
        "LayerNormalization<axis = -1, epsilon = {eps!r}>(h{i}, w{i}_flat, b{i})",
        "centred{i} = Sub(h{i}, mean{i})",
        "n{i} = Mul(centred{i}, scale{i})",
    ),
    parameters=(
        "dn{i} = Mul(d{i}, n{i})",
        "gw{i} = Gemm<transA = 1>(dn{i}, ones_now)",
        _BIAS,
    ),
    backward=(
        "w{i} = Reshape(w{i}_flat, column{i})",
        "w{i}_mean = Div(w{i}, width{i})",
        "u{i} = Mul(d{i}, w{i}_flat)",
        "u{i}_mean = MatMul(d{i}, w{i}_mean)",
        "nu{i}_mean = MatMul(dn{i}, w{i}_mean)",
        "centred_u{i} = Sub(u{i}, u{i}_mean)",
        "along_n{i} = Mul(n{i}, nu{i}_mean)",
        "rest{i} = Sub(centred_u{i}, along_n{i})",
        "e{i} = Mul(rest{i}, scale{i})",
    ),
)


def _lines_of(layer: DenseLayer) -> _Lines:
    return _LINEAR if isinstance(layer.transform, nn.Linear) else _NORM


def _eps(layer: DenseLayer) -> float | None:
    # ONNX text with a whole number would be an attribute of another type.
    return float(layer.transform.eps) if isinstance(layer.transform, nn.LayerNorm) else None


_NO_CLIP = ("g = Identity(raw)",)
# Mirrors torch.nn.utils.clip_grad_norm_.
_CLIP = (
    "tiny = Constant<value_float = 1e-6>()",
    "one = Constant<value_float = 1.0>()",
    "norm = ReduceL2<keepdims = 0>(raw)",
    "above_zero = Add(norm, tiny)",
    "fraction = Div(max_norm, above_zero)",
    "factor = Min(fraction, one)",
    "g = Mul(raw, factor)",
)
_ADAM = (
    "m_decayed = Mul(m, beta1)",
    "m_out = Add(m_decayed, g)",
    "v_decayed = Mul(v, beta2)",
    "g_squared = Mul(g, g)",
    "v_out = Add(v_decayed, g_squared)",
    "deviation = Sqrt(v_out)",
    "denominator = Add(deviation, eps_now)",
    "direction = Div(m_out, denominator)",
    "p_step = Mul(direction, length_now)",
    "p_out = Sub(p, p_step)",
)
