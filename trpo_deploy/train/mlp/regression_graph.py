"""The critic's regression as one ONNX graph."""

from __future__ import annotations

from trpo_deploy.train.mlp.dense_network import DenseNetwork


def regression_graph(critic: DenseNetwork, *, clipped: bool) -> str:
    """The regression of a dense critic as ONNX text.

    One Scan over the mini-batches carries the parameters and Adam's two sums, each as a flat
    vector.

    Args:
        critic: The critic's network.
        clipped: Whether the graph clips gradients; it then has the input ``max_norm``.
    """
    shapes = [tuple(linear.weight.shape) for linear in critic.linears]
    lengths = [length for outputs, inputs in shapes for length in (outputs * inputs, outputs)]
    n = sum(lengths)
    body = "\n".join([*_gradient(critic), *(_CLIP if clipped else _NO_CLIP), *_ADAM])
    return f"""<ir_version: 8, opset_import: ["" : 13]>
regression (
  float[samples, {shapes[0][1]}] features, float[samples, 1] returns, float[samples, 1] ones,
  int64[draws] order, int64[steps, 1] start, int64[steps, 1] end, float[steps] two_over_rows,
  float[steps] length, float[steps] eps, float beta1, float beta2,
  {"float max_norm," if clipped else ""}
  float[{n}] theta, float[{n}] exp_avg, float[{n}] exp_avg_sq
) => (
  float[{n}] theta_out, float[{n}] exp_avg_out, float[{n}] exp_avg_sq_out, float[steps] squares
) <
  int64[1] flat = {{-1}},
  {", ".join(f"int64[2] shape{i} = {{{o}, {k}}}" for i, (o, k) in enumerate(shapes))},
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


def _gradient(critic: DenseNetwork) -> list[str]:
    """Lines that compute ``raw``, the gradient of the mini-batch's mean squared error."""
    last = len(critic.linears) - 1
    layers = range(last + 1)
    lines = [
        "rows = Slice(order, from, to)",
        "h0 = Gather(features, rows)",
        "y = Gather(returns, rows)",
        "ones_now = Gather(ones, rows)",
        ", ".join(f"w{i}_flat, b{i}" for i in layers) + " = Split(p, lengths)",
        *(f"w{i} = Reshape(w{i}_flat, shape{i})" for i in layers),
    ]
    for i in layers:
        lines.append(f"z{i} = Gemm<transB = 1>(h{i}, w{i}, b{i})")
        if i < last:
            names = {"h": f"h{i + 1}", "z": f"z{i}"}
            lines += [line.format(**names) for line in critic.activations[i].onnx]
    lines += [
        f"error = Sub(z{last}, y)",
        "square = ReduceSumSquare<keepdims = 0>(error)",
        f"d{last} = Mul(error, two_over_rows_now)",
    ]
    for i in reversed(layers):
        # A product with ones sums in a third of ReduceSum's time.
        for parameter, factor in (("w", f"h{i}"), ("b", "ones_now")):
            lines.append(f"g{parameter}{i} = Gemm<transA = 1>(d{i}, {factor})")
            lines.append(f"g{parameter}{i}_flat = Reshape(g{parameter}{i}, flat)")
        if i > 0:
            lines.append(f"e{i} = MatMul(d{i}, w{i})")
            names = {"h": f"h{i}", "z": f"z{i - 1}", "slope": f"slope{i}"}
            lines += [line.format(**names) for line in critic.activations[i - 1].onnx_slope]
            lines.append(f"d{i - 1} = Mul(e{i}, slope{i})")
    parts = ", ".join(f"gw{i}_flat, gb{i}_flat" for i in layers)
    return [*lines, f"raw = Concat<axis = 0>({parts})"]


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
