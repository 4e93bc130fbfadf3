// Functions for generated modules, which contain those that they call.

// Input and output.

function decode(text, Type) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Type(bytes.buffer);
}

function isArray(value) {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && "length" in value);
}

function received(value) {
  if (isArray(value)) return `an array of length ${value.length}`;
  if (value == null || ["number", "boolean"].includes(typeof value)) return String(value);
  return `a value of type ${typeof value}`;
}

// One array of the observation: flat, or nested as its shape says.
function read(input, value, path = input.name, axis = 0, first = 0, size = input.data.length) {
  const { shape } = input;
  if (axis === shape.length) {
    store(input, first, value, path, -1);
    return;
  }
  const expected = `${path}: expected ${shape.slice(axis).join(" x ")} numbers`;
  if (!isArray(value)) throw new TypeError(`${expected}, received ${received(value)}`);
  const isNested = axis + 1 < shape.length && isArray(value[0]);
  if (value.length !== (isNested ? shape[axis] : size)) {
    throw new RangeError(`${expected}, received ${received(value)}`);
  }
  if (isNested) {
    const part = size / shape[axis];
    for (let k = 0; k < shape[axis]; k++) {
      read(input, value[k], `${path}[${k}]`, axis + 1, first + k * part, part);
    }
  } else {
    for (let i = 0; i < size; i++) store(input, first + i, value[i], path, i);
  }
}

function store(input, index, value, path, position) {
  const number = input.isFlag && typeof value === "boolean" ? Number(value) : value;
  const low = input.low[index % input.low.length];
  const high = input.high[index % input.high.length];
  let Failure = TypeError;
  if (typeof number === "number") {
    input.data[index] = number;
    const kept = input.data[index]; // rounded to its type
    const isWhole = kept === number && Number.isInteger(kept);
    if (kept >= low && kept <= high && (isWhole || input.isFloat)) return;
    Failure = RangeError;
  }
  const place = position < 0 ? path : `${path}[${position}]`;
  const expected = input.isFloat ? "a finite number" : `an integer from ${low} to ${high}`;
  throw new Failure(`${place}: expected ${expected}, received ${received(value)}`);
}

function readKeys(inputs, observation) {
  const keys = inputs.map((input) => input.key);
  const expected = `observation: expected an object with the keys ${keys.join(", ")}`;
  if (typeof observation !== "object" || observation === null || isArray(observation)) {
    throw new TypeError(`${expected}, received ${received(observation)}`);
  }
  const unknown = Object.keys(observation).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw new TypeError(`${expected}, received the key ${unknown}`);
  for (const input of inputs) {
    if (!Object.hasOwn(observation, input.key)) {
      throw new TypeError(`${expected}, received no ${input.key}`);
    }
    read(input, observation[input.key]);
  }
}

function checkFinite(values, message) {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw new RangeError(message);
  }
}

function nested(values, shape, axis = 0, first = 0, size = values.length) {
  if (axis === shape.length) return values[first];
  const part = size / shape[axis];
  const rows = [];
  for (let k = 0; k < shape[axis]; k++) {
    rows.push(nested(values, shape, axis + 1, first + k * part, part));
  }
  return rows;
}

function largestError(policy, golden) {
  let largest = 0;
  for (let row = 0; row < golden.rows; row++) {
    const action = [policy.act(golden.observation(row))].flat(Infinity);
    for (let i = 0; i < action.length; i++) {
      const expected = golden.actions[row * action.length + i];
      const error = Math.abs(action[i] - expected) / golden.scale[i % golden.scale.length];
      if (!(error <= largest)) largest = error;
    }
  }
  return largest;
}

// Steps. Sums are in double precision; a Float32Array rounds them.

// Four outputs at a time, so that additions need not wait for each other.
function dense(x, weight, bias, y) {
  const size = x.length;
  let o = 0;
  for (; o + 4 <= y.length; o += 4) {
    const a = o * size;
    const b = a + size;
    const c = b + size;
    const d = c + size;
    let p = bias[o];
    let q = bias[o + 1];
    let r = bias[o + 2];
    let s = bias[o + 3];
    for (let i = 0; i < size; i++) {
      const v = x[i];
      p += v * weight[a + i];
      q += v * weight[b + i];
      r += v * weight[c + i];
      s += v * weight[d + i];
    }
    y[o] = p;
    y[o + 1] = q;
    y[o + 2] = r;
    y[o + 3] = s;
  }
  for (; o < y.length; o++) {
    let p = bias[o];
    for (let i = 0; i < size; i++) p += x[i] * weight[o * size + i];
    y[o] = p;
  }
}

// A dense layer on the patch of each pixel.
function conv(x, weights, biases, y, at) {
  const [inputs, height, width] = at.input;
  const [outputs, rows, columns] = at.output;
  const [down, right] = at.kernel;
  const groups = weights.length;
  const patch = new Float32Array((inputs / groups) * down * right);
  const pixel = new Float32Array(outputs / groups);
  for (let g = 0; g < groups; g++) {
    const first = (g * inputs) / groups;
    for (let r = 0; r < rows; r++) {
      for (let s = 0; s < columns; s++) {
        let i = 0;
        for (let c = first; c < first + inputs / groups; c++) {
          for (let j = 0; j < down; j++) {
            const row = r * at.stride[0] + j * at.dilation[0] - at.padding[0];
            for (let k = 0; k < right; k++) {
              const column = s * at.stride[1] + k * at.dilation[1] - at.padding[1];
              const isInside = row >= 0 && row < height && column >= 0 && column < width;
              patch[i++] = isInside ? x[(c * height + row) * width + column] : 0;
            }
          }
        }
        dense(patch, weights[g], biases[g], pixel);
        for (let o = 0; o < pixel.length; o++) {
          y[((g * pixel.length + o) * rows + r) * columns + s] = pixel[o];
        }
      }
    }
  }
}

function pool(x, y, at, isMax) {
  const [channels, height, width] = at.input;
  const [, rows, columns] = at.output;
  const [down, right] = at.kernel;
  for (let c = 0; c < channels; c++) {
    for (let r = 0; r < rows; r++) {
      for (let s = 0; s < columns; s++) {
        const first = (c * height + r * at.stride[0]) * width + s * at.stride[1];
        let pooled = isMax ? -Infinity : 0;
        for (let j = 0; j < down; j++) {
          for (let k = 0; k < right; k++) {
            const pixel = x[first + j * width + k];
            pooled = isMax ? Math.max(pooled, pixel) : pooled + pixel;
          }
        }
        y[(c * rows + r) * columns + s] = isMax ? pooled : pooled / (down * right);
      }
    }
  }
}

// Copy `count` blocks of `size` elements, from and to every `stride`-th place.
function copy(count, size, x, from, fromStride, y, to, toStride) {
  for (let n = 0; n < count; n++) {
    for (let i = 0; i < size; i++) y[to + n * toStride + i] = x[from + n * fromStride + i];
  }
}

function softmax(x, y, size) {
  for (let first = 0; first < x.length; first += size) {
    let largest = -Infinity;
    let sum = 0;
    for (let i = first; i < first + size; i++) largest = Math.max(largest, x[i]);
    for (let i = first; i < first + size; i++) sum += y[i] = Math.exp(x[i] - largest);
    for (let i = first; i < first + size; i++) y[i] /= sum;
  }
}

function argMax(x, y, size) {
  for (let row = 0; row < y.length; row++) {
    let best = 0;
    for (let i = 1; i < size; i++) {
      if (x[row * size + i] > x[row * size + best]) best = i;
    }
    y[row] = best;
  }
}

function clip(x, low, high) {
  return Math.min(Math.max(x, low), high);
}

// The Maclaurin series of erf(x) exp(x^2), whose terms have one sign.
function erf(x) {
  if (Math.abs(x) > 4) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
