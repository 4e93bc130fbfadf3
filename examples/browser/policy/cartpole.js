// cartpole: TRPO on CartPole-v1. Written by trpo-deploy.
// Pass raw observations: this code has the steps from them to the action.
// action: the most probable one

class Policy {
  spec = spec;

  // The action for a raw observation.
  act(observation) {
    read(inputs[0], observation);
    dense(inputs[0].data, c0, c1, t0);
    for (let i = 0; i < 64; i++) {
      const v0 = Math.fround(Math.tanh(t0[i]));
      t1[i] = v0;
    }
    dense(t1, c2, c3, t2);
    for (let i = 0; i < 64; i++) {
      const v0 = Math.fround(Math.tanh(t2[i]));
      t3[i] = v0;
    }
    dense(t3, c4, c5, t4);
    checkFinite(t4, 'the network overflows for this observation');
    softmax(t4, t5, 2);
    argMax(t5, t6, 2);
    return nested(t6, []);
  }

  // Start an episode.
  reset() {
  }

  // The largest error over the golden rows, as a part of the action's range.
  selfTest() {
    return largestError(new Policy(), golden);
  }
}

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

const spec = JSON.parse('{"format_version":2,"observation_space":{"kind":"box","shape":[4],"dtype":"float32","low":[-4.800000190734863,"-inf",-0.41887903213500977,"-inf"],"high":[4.800000190734863,"inf",0.41887903213500977,"inf"]},"action_space":{"kind":"discrete","n":2,"start":0},"algorithm":"TRPO","env_id":"CartPole-v1","environment":{"id":"CartPole-v1","arguments":{},"wrappers":[],"frame_stack":1,"unrecorded":[]},"states":[],"guard":null,"squashed":false,"observation_components":{"obs":{"names":["cart.position","cart.velocity","pole.angle","pole.angular_velocity"],"units":["m","m/s","rad","rad/s"]}},"action_components":{"names":["push left","push right"],"units":[null,null]},"period":0.02}');
const inputs = [
  { key: 'obs', name: 'observation', shape: [4], data: new Float32Array(4), low: [-3.4028234663852886e+38], high: [3.4028234663852886e+38], isFloat: true, isFlag: false },
];
const t0 = new Float32Array(64);
const t1 = new Float32Array(64);
const t2 = new Float32Array(64);
const t3 = new Float32Array(64);
const t4 = new Float32Array(2);
const t5 = new Float32Array(2);
const t6 = new Float64Array(1);
const weights = decode("QUuBvqFkZb4jnvU9fK/UPWopPT87Vh4+96A7v1UQ6L4iQE6+WnDbPokoEL4PrKy+PIRjPqqV2j7zHao+oCCgPtaIET5EKxS/upOQvu73Mr6XdkK+6jWbPqTEt74whWg+y58RvuBQ4jyiuAY9jVzBvqmShr6ANrs+aIAoPalTMb5lkqk+yEy+vFWDCz9wppI+1AEkP17Dsb+Gzb2/aAmDvwwiCT5wMI0+78SKPupADj6MwvG8JiwcP92W6z7ANIq+dsDovlTY474Us9U+lKyZuhIN9b1b6ga/P6nGvslduz7W2e26A7WmvpQnZ77JBWW+634TvjqCwT4+JeM9mG7OO3Tl0Dwgbnm+lS2Fvitsrz7JUq49w9E0PV0d0D2mTBM+stWZPKjVzj0o79k80jnWvlMoET0YqV4/kevcPtCxDb8MK5S8owlBv+kjar7O7Da9lZNlvrIMZL1q5gI/tzPOPrz9Xz4s7jk9OkcFP7STzD5k36k7d6f4vrv+Eb/SfCO/xVovv7/ijL7VbwW/6r8lv4rZF75vGIc+Lcv6virBNL+uvNi96H9xvpbRNr2agho91iiVvUvYSD74HQS/BDaDvoiuDD3USG0/oIDMPmFCZb+UJZI+1e8gPndXA78Biky+OtQQPm7bnL6odgY/KSQKPhcFLj57kw8+ZEFIPzGw7z4tD7s96V/YPtH6371gp3i+lAAOv0YFsb5TMja/BnYrv5hPDj6PB+M+YJl1PlwR+DzfjBa9G2twv5IyL75j1H4/nl6rO0Rcwb5XYvY+oiY6vpV7Uj9Jip89NSgJPxS0Bz82WY09rPtaPa871j371ae++xgPvoasYD3Gsu2+cuSpveeB9D5Z76q9Zhw0vvNw0z7T/WO9GLg4vzySmD7ti+s+pRR3PYTlkj7xVZ4+Fk4/PmY7AT1ypCq/ESU+vgjUdT5VgAs/22BYP+3rkT2mVJI8UZ3KviECEb/6da09NFHavI7THb22adA+E37Jvu9Jf77OlRg+cfpoPij6uT3L1Ky9YetUvX0UZD4/0L492RRSvuPiFz8KywY+rZc0P66kJT8LeK++Y4IDvV9InL3c6nW+TsiUPpqeij6pCUM/2ZAOP1pdRj0QVSi/VcwNP06fAj9lIVC+vw+SvxzChL3GKZw/+ku9PD7Uvb4gSQG/mrS7vXn0qD5Qg4O+DRgIvjBOLj37XFM8hwgWP8hQk72c0AO+x3GjPlF9Db4wT6292WgAvSLofbzgvwG+AHcQPpM8Mj5LAOA+jYAIvrYMTL4qKI4+LWBKPJpTKD93Rvu9D/1fv/ZUUj9WBY8+h+EkP+4iQD/GdZa9QV1UPlNqHTzsCCu+xOi3vGIeR72x0/e9IRYvvljCwL7a1rc+uDV+vjz/Bz/MRS++1C2AP315Az6U/o4+iCcnvThyX7/0DEA/PRI9vkBSQb5z0Y883oqFvgDnwj6jwA+/tfTtPT/c+z1DTwg+RdFEPfDooTxF9EK+DBBVPkVPwD61xEw/31d9vRXtr72gtZQ91JBXPO4VXT1Ae7a8gyVWvQk/4D6eOa29ae0kvsYm3Dy43rO+eM2zPkR6jTzic3u9iWLGvk4kHT+DA9s9+SfXPtSzm77Exz++k4JdvJ9LO77hxhy/hfw8PrpwYr4DDkM/0+xavlP53r4JaA+9pGBdPivUaL5Mvto9ktm9vSB6Lj85Wd++nY2Hvk+oSr/ZQiW+17GrvSUaJ7t/YIg9U1YjPFrEH74fxs88FarHvUzJ+D0ogDq++k0hvVJi3byw1x8+Qdu2PnRdxr6iwA4+CfuXvUJfc7wxSXK9fSz6PjCdBr6XlIa9OXCFvnPDhr1gLWE+Iw1xPNjjiz4K7XG+A40/PP4Ejr5XTjY8+IXXvfntiL7utug9vcsuvVzLhjlKKYa941HDPSVcab7G8qu84fYcvomCCr6fO988n1AIvu9gGD31Ni+9STAePm9Ul75z2D46y2ovvRnICz6wmze9k/EKv7V6V77NMp8+64kGvTBow70p/1s+lR6tPMwVbL5uRS6+L1jgvbWHzztqDf87YS93PRyTPT55a5k+9Tu7u1Topj2g3K89qG5du2v7J765TgW+F7XAPkfZgLxdqsc94h/KvUbBQb2jnTS9rd+VPqWQBD6g1Sa+MLDaPQ1Fyj4QrIq9NOKPveWKpb3IQWW9ReouPeIyq7w2XZK+gUurvcjCFT47ZnC9AwWFvhq18b1IBBu+goWfPDz1mr7tBSM+bDkxvvGRh75fyte+t+IdPAqVHj6JnW4+/fD2vVqUcTw9WSI+g5MUPoTjlD1BmQw+HAQZPr6FkD4thJq9MPS+PTEqNj5FxzE+lnYivFjNgz6U1XY+aAeFvYqj/j0NaK++8uEiPjqSKr1N0YM9tAGQvozQIz1/2vM9LzPPvAPTjb0d3Hk+iW8uPR+Chj7AAja+cLBFPDLciz4BVx6+b4LBPR3KhL4nHJ49qgOfvqY/jz3wfyE++qylvoDlnrxwB7q996ucvk3WYb1m5JU+HZYFvsOOkT15RzA+Z5mFvSWQtj7myFW+9AQNvquExL1A6Ba+VKznPXhBAD8Oxpw9FS2uvcFjOb0E7y09g/o9PoOJTT6dLLg9cKCHPlESGz5k4GG+vuGXPZ1VXTvGFi48ZUqPvdGQYz7QuLY9I9fkPdW2kL616R483IA6PXSlQz30rzC7BPKBPIMw174pv4s+sl0xvChMI74q9v29lmyGvtHdij51yqk+5pbEvV5Jdr5Dgmu9CjbevMisHr5+nBu+E8dvvVf0Oj6Ki1e+XyoEPRq3o77p06M75RN/vSVB1z3QUUg+KJMDPnEvrb2LSZg+2J3aPQWxpD4jyzG9TniAPe01P75Zw9O+UxLGPVn3tz26DwK+6K1zuq1cKr2HrSg8AotdPnSspb3VHEW+VUCBPjEpEL6meCa9uAOtPt3mjz3bJ08+5cOoPvDcf74pXEs+sGi8vbtwhj2BGdq9U4gzPtbOhj2sm728nk/3PsBv9T676cQ+VhWLvdSZSb6WPlY8bd2fPUAqnT3JNtW9x88mPRFbWj4nQTI9byT2Ps6Gk7z/emm+fO66vYBosL4m1JM8bL4cPsDaf7z0gcU+EF1XvhxBsT0sfZq+KC72vVCpwLw/FM48tZunvRO3xLy2UY49CSDRvB69Mb6r0768ACslOqQgTL4/2iq+lS4IPhqbHb0Q0Em+rqjovKXq3DzLgXo8PZkXPqdIvD01hvi9eq0MPtUV5bqMF087AmaHvga5e7548xA9k/M5PqvEcT5Ggjc+EJ1oPuO6lD0FamA+vGdjvmFJcT5heVY9y9ucvlaYXL5i4U8+KXXyPg1LiD1uGFA+/3izvQu3ib5Xota9r3tjPrFkIL22qpg+VM8TPmqrqT1+MLG+y3CLvbaD7D1ufl+9s1mivWV1Oj5K/hC+yRzCvdtpiL6q9m2+N5rkPgdwKj5NS1M9OoxxvCRjdj5sC309jqLDvp8uNT794xY+GF74PGC4iT6a9Bg9rw1bvU06zT07sxW+2O6qO9mgZz6PH4u+rNWMPkTtaT6gmVW9pZ5cPZCZhj5J6mM+krcovRBXRL5VYy2+86gzPo4FAj5JgFY+B2gRvbl+hz6Y7DS+UXWEvjWT3D33T789qW/zvMuNlL0Oayq9OJkbPh58qj1pj8m9+iHPPdkS3r3ECbO+s1s/Pdy46DxtvLc9BVy1PWFQlT6ceLE+uLV4viGTer32M9M9pC+EvuFojb5S8n87BNGYPcqSWD4VKG2+z/74vCW0lL0eJhe+BP/nuqbZUz6eZYc+LlzrPedj/D0G7oU+Pec/uwetzj4M4oo9AascPpM1kD6Td+W9p4HcvKZ1wb3nCc88IUJyPdAmej7dPVw9GDyWvb5IpTwjrI++TWmlvGCGrb3/SKy9HwIRPv8A4zzU7R081SMcvgFcgr6kjru+gugjvBfsgL38pFm9QujMPK9/Mr66NBc+UODRPUwWNLxKGxM+CMt0u1boDz5i4+S8qObKPf5UObzabqS9J+PdvRVcJ77B3N29erq3vpsq5zxziC4+XFCgvtezRz0SYfC+WVJoPh0/FD2qwKc+Zy8lPh3zlz0cCMI+RfjzPWn0Az5z/Ku8xklxPu9tA77zCmK+PfL4PYbKQD5pBwq+bzIcvTGzUz5N6VG9nc46vb6EHD62KSC+qW+UvWZtYz44cIa+fhkTvPb/V7wJ+jg+mZ2IvSSALT3rsGY9yNqwvQpXAz5IBgI/pQAFPkDEJz7PNgI9uU/BvUwWij7KLXm+VsmwvdVovD0426K6h5tRPd5n0TzW2S49dvwJve/rg73tl8Y9Z/kdPuLD7j3BBKS7X5CEvtRkor61I6C9y4lgPnYPlz64eu29pC8DPD2DZT788469uYTsvUgx/j2EDjC+AOefPrPLpz2m00G+Nr/LPgiv7j1cOpg+MiXTPsxKHb4HNY89nOMwvk/mlrusJO29EnuUPQyyVT7W65K8RsCpvsQGnj7fOVW+65BoPvn/A77icCw+APaIPT3zRL4Zko091/FdPBTlfj6SN5C9Jf/GvUBElj5/Nb2+krIPPu3JdD5TGyy+qxN8PoEfyL6G06m9M8VcPgFmAL8WltO96BYXPkwcCT5xj2o9XfMZvKOEL74Io7K+58JdPi49tzyy558+ADUKPDTmSr0ycNy9p9ZGvq8Dc758Cue87T79vaw7Aj5JfC4+xLixPBvSmr4tage+2Vo7PsNm9L0JK3k+iiIGPoov7r2VqJG+ugh4PZq9e75gy6G9vkUDvrtCkb0qS689g0ptPky/Qj3ErqK+EcvQPtAY/T1j4oq9jAsDPuubjr5EaIQ+8GuRPs3pgD6mFHY8siMRvYQeGT4E+OU9hdyCPdp5fr4jFqi+dyr1vCdWUj6n0xm8oChwPhpUXz4TRQ8+rnCGvd9rMT6qfkK9S0jrvZfiJLzqmTm+UlPwvKnjvb1pD+49ypfPvbOThT3O58m8qneKvgtpiT1DHZO7qennvGSdRr4cHY49s90FvT9Crr218TC+2Kf8PMiQnz5QY7e7TMTGvav7vz1mJM69JXsoviuAoL65yyM+WWnwPYSS7T3XvQE+sCSsPqzPjD42Yte+fHJWvrSihD4+2Ue+43afPYglfb6JAIS+bO6BPs53Sz38yFM9xY9gvjMilT1GIp+8ugK5vecTir6BkF+9Bh+wPXU3Pj4/tGq+0OHKPQ5Opz21ZrI8xuLmPfTnmj3YWmo8ZxIaPgkeVz7aE44+0v4JPFCjkLxdRJ+9w5o+vvqhm75i/g8+f6miPn8DmD6Xghe+teoLPtpHAj5xhLQ9oMgKPRxls77ZCIW9MPPoO44CCj2SOem9yw6uvD+93T0/a+Y+hvB+Pkzhp74YYiG8tIpOPiBCj7tB9Bi+sjAmPvanLr0JQpi+pLXIvXmGOb4kK6g+cNhUvpcDdr2S4/c9YJfUuzjACz65DDY+tfiePR4JUz2glT6+/cX/PSvjCbsVkv+9m+sWvSYwVDoqrUm+IlwzPcGznL0DsWC75Rf6Pe9KaT7rHxU/OowDvnCKCL22ukI9BC1PvKLP2b38Xgy+7pWBvtuzWj6bGN49lotzvID/mL4Atki+VCIUv9zh57u0T7g+kgSDvrBrNL4A0nU+MYs8vgkzWj0/Bgg+SJDkvn5GUr04xJU+XQ+dPerjEr5mGI89SAVTvfg2HD4+KMw9LCYZvnYrTL7F2Ry+zz23O65aQ76kY5I8pOe7PXHKPj7u3go+nEiVvNAPUb7TewO+l0+dPq//Ez6nq4m9xnNovbBREr2AIFs89KDMPi62Vr3hCI88gSMLPhL7LbwWCQm+T4hjvuWMXT513lw+EQl7PkLJS75T5mQ+dl/nvoM3F77eZIy+wFKlvQCYRLn+1g6+yu5UPgtWkr2fctA86mhHvH7XZ74HBk2+13YoPhYitT7bNYG+PdQcPg+0ij5muZy8YP6KOwaU771US/a8PejsPPE7rT2BEbA9OuAfvoITPT5/K/W9cmtlvppqpL1RBTI+TpGMPXfEjT4ggvw9tJeKvh59Ubx8MK89Op7ZPnwYLj74K0S+ZXnFvs4y7zw7sXC+wfybvmKRqz61vpW+xUWVvfjsbD7Qz6k+6uDlvC52Eb4SxlS+4vfIvRaoVz4iI7K9lVDgPZErpb22Vom9RDE0vUWj1Dx+P0A9SL+QvtJWiz6G08W9VoMFv8k5nL1Bg7E9d0ilPSq1Qz6n3P29SMa/vaeYI73KmjW+CcmDvjvdB72mODG9T7+tvSZjZD505jy9tKhHvVFAR75Q9h28fDL7Pe5ctr3pJbM9GjNivlG3m76MdRK+Ol4svJAOV74MdRm+mLF1PSPldz1MtG2+zSycPXlp/L0tmqK+WbBPvqIUC77MZ9m9fNulvCbLf76Glo+9SBPAvmRMgT2n+Iy9tinvPZ9+XTxYWsO9OqqlvtOthj4CIhA+5CixvWUX77yUX0G+Fo48Pp/DFj9jz4G+oE97PXnWJz7hIu+97toSvgZsDj0RIcw9TF7yvd55jD1NoLY+eBy4vmsIED8D+WM93wvjvE/DGL4OILK+gkj3vL8dsDxPxvu8wibavfujuL1CyKq8EO9Avpofub6qoiK+IiKzPmrx1T5+c7g9f79Vvt2twb0eFZC+lSqwvo17cr5WquW9sfcOPiNYyr0kco29dn6PvSAos70x+ZY+kz1wvRA0W74J6D88ymAWPgkdQz6SdRw+VUoEPv1p8b2mjey9Kg+Iu1r5ar7x1ru8DUDIPSCVGD2W4pG+goF4Pi0lRD0BPrE98Q+cPQtnab6bcYy+qMnCO2WhZLyguz2+ZORcPb7HCj4y1/a7k0OevExber5w6hC+AoPBPYh0WD0rncw9newYvgbMK77hJBi+J0XFPXcHGr6UqGU86XoJvhxxFL7ulZO+e32pvEWBkT1h5RY+sPdbPRSCIrxV3gI/MXjMvVN8wr4McyS+U/jHvWCZrbsJbuY8GOkhvlobZzypFDg9wTZKPhccGL4LBpe+gkV3vo9OmzzZ+g4+fYOGPh057r0gQ7a+XbaHvOUwgL7HHIE+VDU9vLJQJz0cIc8+vBX0vOF+rL0AO0e+iF+kPJecWj4UQC0+kouoPtJXEr9UYfW8m0IwPdKfmD7tD4w+YhssPhe5cL2IB2A+N2qavaEIWb7p/Zg+mBTmvTzm177BxAa+tHlDvhMgvj6CqMa9xqiuPtV1yL6ZveS9szQov3+BxD3pjKG+KiaiPgrdBT60c4O9Rqnsvl2Vhj4RAo69X81EPnpYr74d5l8+Z98yvZHjoz3ZEWY+AlpZPSk9GT7ewq89+H8sPiut0b4K5E86rEe2vAOg+bwsL4K+GQ4oPotnsb4VMo8+HQydPmYWI71ix9Y9trRpPeCJRT6olyM+wLeovgf/oz5+U7S+mkgSPnRlf71FRj2+0Y1jvtseHz0XN5C+xdfsPSQZ5bzYXQA/kFzFPlD+Uz5lTES+FViIPRwryz1wsCA++6KFPOy1Bb0y0Vi9DmiBvtrHxr26YKu+Zdw4PcUbhD7w96Y9wugevnTsjzyXwm29zzsVvsadrj6hH9W8APg+vr+W3z5rW9U9XGAoPrPesbvuMKU9eyUUvqV/ir42KmC9hac9vpmHET6ayGE95gVKPjMuOD6PtoW8TD0vPlo1U7382kg+FQvSPseUP70Boty+S154vqFrJD19K0O+eiJ8PDs0Qr60Bns8lHMEPlEHeT71dtC96HmiPuMhGT4CGni9vMagPrz85T2GhoA9Q1IgPpq4Db7NLXc9BN2hPgYZbbytrQo+gwxdPiB2eb2eb5W9oZWrvRNeMT6YnyM9aeiDPqn2kr1GlvG9QUulvl3lVD2j8RC+SLVVPaoBHb5K4mU+eekYPoZ1QL4DHkw+DfoZPQtPWr264La9u6+FvgtBPj0zDpA+eq9/vgf6ALsQK6E+uf/XvSqScL5MtF29q2qHPpUPm7vNtgk+AY4NvqHg8j0gfQC+vwhHvgBxHL47fda9o6OTPVWznj08V5s+s7Q2PlC3qT6C8gs+VcyhvIFdND7sjxw+U0odPvJZQD3bJW89SH2FPr3eAr3qIAW+8VNTPkBbNTrvw0++yIpKvUKUJr1IVNi+q8wNPn6G9zxF4jy+5EyqPVWjiL5NuU++47hWPWfAUb7PM4c7kw+QPm4vZb7qlSs+098Xve+FMj5sJq89qiIUvOpYtb3ke/c+tvWPvokebD52xDu+QruPvogkXz7JbpG+fWnwPneKCD6m+5i91xaGPjZvqL2XJXu+XIaNPAj37L28pxe+Rd5XPg1yEL5GDlE9XCRePE+l2b6ieJI+jd/LPIZ5GDzdET89tkhEPnoqnr1rrou+HCaUvj84IL7p8HQ+a4+VPv1A470ZIk4+RvGdPUaqJL9WSXI+bKnCPvlaib6BWe09iTtMPSkxAL5wqTw9AqldvZO3FD7AAJW+jBfkvQBT177N/oQ+USsHv3HVfD2+DjU++rOtO3qpf77ygeU9Pv0YvlO1WL4GBze+iGm2Pe7Oc76e7aQ9ygUPPEOfHrv5zn0+NRYvvuGNzL0XkWC+I8trPhv7lj3Q/Qc9psgDPlIpab2I5RE+uYOavaqzeD5T9IG9I34wvqNqfj4oGZc+7Yi/vXfoir5eaZ49McDvPlg5sLz+rtG9RxqHPqyYpz0973W9ypbEvRBmqj7Gfpq80aogPmk/db4jnTK+mn02PevieD4taeu+6mnJPaWYlr3IuCM9l4pVPkN8g7zUCzw+Y0guPi3/eT7Gsg0+IsoCvYfKFz7rAu+9qUU+vuIEJD441Fy+dD3TPfKV9b5Pigy+1vTePejyAT4NwaO9CdCZPhzamDwwDOG+qB3FO+cB7ry+4D++0hfWPLNF5L3N+p29e8F9PJqIVzzunHq+AlWOPOJP1L5fxKA+/vAUPnh4MT7hCOk7kNUtvmYpGz4TVlk9uBV3vtMikD53g687erGRvpgxOL6y67U+JfiwPmG7rD1HQ5G+iLNgvoYUhT5yzrc+zHK8PY2WR733Mgw80HzjPuncBT6/0F8+fwx2vhECqT5Bf7c+e7QyPoAMHr+BlkM+b0EAPEM+sz7u5G++K7vQvjmhAL0NcG29lRBVvjZLJrwUZyY+nmfPPeMxgT79j3Q+YhAfvt0uzb36+/C8OlDovYEDVr+Wp4k9/WkxPhiB6j5oECg+GNY+vAF3K75Cx+4+vB4gPleAZj0Sg9A8gyymvkaEmz4H8rW9EsfUPrOAcL1FMNQ9sD88voshWj5kc/I9yVoxPh0/xT5S7Dg+oHPZviz6Lr6w56K+WRwmPvF9kTxg5AI+1K6wvbOjpD2iaFK+LC3TPcEdsL32pbc95U0Mv8RGfr5+g4O+gjp+Pt8nVz77x7Y+mfNNvdptmTzSljc+99bIvrhDKD5DiEO+waREvoHzXT4XHtC9t1zYvHgbrT7R3v09BDXBPgIImL43ZA8/dhoBv1d4jD7Xdfa8lo3LPBjGsb0SSgu+ilxhPvx/Ir5B3ZC+RS2rvvBVcz4FHiY+NCxAveq32rxOa5g9IuMJviQ/nz06wPC9KxW/vlx7Zz6s/LI9D10VvrXxAb6DaT693jUrPYBtkj4PlqE+IcjgPNrmpr0c1WG+Wo8ePt5nPb6t6JQ+FbG+vsqBmbuMLWa+SR2qvpdAn714hTI+hk8Mvj/02D0jUSG+SIM/Pdmajb03F+M+AXpBvrV+bz1ydVQ+4agnPrtZfj7qsKE8AFEvPmbftr5ILsG9gWg9PrlDp7xb4Oa9IpKoPYxOED3fHIy+Q1hgvonDoT3SsC0+ip0+vQGr073ieYc7TGVVvfnSPL1SCs89qpT1PDaOFz4wp5w+gqIlPVhroD4b71e9D5ExPTiAhz1MLs29NAKVPoCnYL1pdAI+Lx3MvcBFbr67/NM+PCGgPRkDsT2F0ky8AM+CPn282z0hbA4+5iERvg12HjukzTA+y34yvvQ1wz1RbEE+8M7TvW5MgL4XxBs+Ao8lvhMCzj536lW+qZqXvtRIuD0V9Oa9VcMDvt1dXL2m7S4+86SmPijVuj10ocG63sWSPUf09j4iKOm+OSngPfNYWT67AaA9uyEqPo4CGD7ELa49SCHRu7R76r1tzE29aK3CvfTzgz6AUCS+T0B/vnzbyT3U0B6+FV1hPGa+ej24bCq+/yRcPRQt+rwRJ229E5S9vr1qbz5IlPW7AAxmviddsz6WSls9NN+4PbYp8L2225G8UT0nvkUWgT2YBpU9xiCyPa4PDz/olIG+tUegvu4tBD9llYu+Hzc3vuj3Yr7/voS8iYl/P3mwDL8vdBO/dTaMvrjZ1z46laU+KAhbvsvoAz4f+9W90x0Kvj5+B7+94eM+HAePvoQVWb6v9C8+e6bUPVKWFj++JyC9cB5ePFQKCb/XRGs+uScavikkpL5sgfe9qTOnPn3JT75a7gc8jeQMvsSa+Dq4mA6+p9IGPodkrz6KUUy+XU3wvl/A8j6Cgnu+CH00PUTMCb123B++MEzrva4B9L4RqxU8s1Qlv/D/G75p7pC+eo/rPkDptD7fHJK+cevVPoIZZL1HmcA+VowKPwsel77yOCa+tsmrPlg/Qz4qiqa+DF2Tvtq/Lr7uv6G9ahIJPtmZPr4fxKC9gDdAPVqCXLzYGBC+kGb6Pb1KH74fMRo+KTkqPti3mr4Ix5c9IdbGPf47fr7qu7Q+lim6PXQTID3eWt+9ACJ7vl7UCD/lBLq9W4JIvQXRqT6ib4m9uQGjvD4mIr5V0EQ+lHHNuxIAlL3itsa85FAaPaWYfz1dd2q94xRnPhfaqDv2Zry9eznwPcBwrrt6oTS9ip6uPowpn73bqZ0+xSkLvp3i07zCRe86ETksPDQ6F74G3cU9I9t8O/NQUb4pAx89xf9tvu92A73Xvk4+nxfEPaggaj6Oxdo8I86nPoQCWr6q4eG6bh/kPeE6EL7KVZS+wxdivbewBT1MKpy9cseDvloC9L7lQDg+sSUjPvbItT78Wt+9ETsiPva2Hj6gw9M9QFQHvuRkTjybUdQ90AgLPpFQ1rvWV7W+gCAevkCCoz6fuDy+3BkAPYHmer50+To+VVFRvkbcSz4E7VG+pjU7PdjQjDydsrA+lVFGPiHJ6T47xBu+ua6EvhxX0rp9/1I+4ubMvRXdmz65pL88wyWGPRAdnT2YWXw8YqICPP2d6T3xoEM9LgWHvuNLQT7SWtc9A+1/visyVz63h58963kCPo1lKr68oYE+ITyFvmLuVz0Wm9k8FhuMvvp9gL4Ty3U+sB7yvTf0I7477PY9MYkyvtPaeb4IdSw+xumgvORzZT5q7n6+fbpPPgjsyj0YK8q+l8c4vmIZgr11O1u+hZUEPqCWQz2ml+k9kcaJvhFM370yEbq9PHTlvYzb4r38fcE9L1cMPb9xp71gttS97DCKvrZOGz6SykA+FWJOvZcsGD7HRDW+T4DTPnCZxb02H2s+3Mc/vpNdhj6sbWo92VXNPX/VfL3O3gi9LXWwvYkgFr7ZhQa+9dZavpOvxD7W9Oo81DEvPnSsU73hW6q+uAg4PQ7p0j1XUJS+okkePjDdRT37D5E9lv95vk3B2Dr/u3Y+tW2GPgKrd72Gj2c8AO+zPWx3Sj4sh7U9LJeEvZEdKr6E/Qo+iNl8PrzVPj1zV20+Q4pmPux33r6b1W69DLUuPqKlOT43wzS+x3YqPP+spD5pAjm8YdaGvduPurwTp0C+Cr6tvkFhfj7Aapa+v8bZvXAUL74Qsou9Bw+XPVytjjwCy949Xg2Vvkjr1z3uRAA9MQXavljRuL0p1Ra8wVFivshbqD3O5kC9Rpo5PlbKg77VtNw9LClVPmqFYL5SsmM98DimvDR1jD6NLI29nfvtvU25uzrZW7I+ePL0vaxurD7YSDq80BfDvtUUeb6Ur3u+I6OyvpxSEz7EPwy+PFJoPqlmRT73si8++sXiO368nb3i1cq+nR2HvfPpfL53iOc9j9pGPY+7Az6NEjM9csq5PSNVWT7J8uI9U7OXvoL7/L2JDjs+RGVevmFp1L0ufmC9aus0vrY28D1VWbG97+euPlEBFz6sUB++49pIPuB0+L6Vck69Lo0MPDXzL73ixqg9QNpIPQm9E7zxfdC9lIQwuxBHZr70/AG+YPfLPZwkwL0jpEw+C3KivTfDH76KzBE+oe4MPrFqCz7l9qE9PiphvU274r4odkm+MaLMvois9r2Rmxa8pnrkvedRqz3gluc+1d/HPim56L4qylc8XpX3vbrckb3dy409FVkGvr1k8z2AkTq7JewpPqZOrz3g4aK9wHkQvWm1fj0VWLq+QorWOkra57wPwnA97/mtvjvzwD13HoS9r0SiPpSyhD2e4nY+mpU1O3ENvL19IC4+hWeEOvDmqj16qxi+OinTPglhgL4xsg2+Ufh5vUUwmL1EYDy+NGFMPd7aND4XQZ4+HgNpPunb6T2xjEw+xv3PPfPkQr7c/RK6haf7PgcBJ75GNWG8gS2JvgBDPj6vk5m+trIMPlwcdb1TalW9mDcYvozgJDsmVPQ9iZ8DvcUVQr0VFXm+aJdivhi6qr3CP6W9ev+mvTZQVj10NV4+LJpxPgzXHD1Z9XM+ZXl2vKTSvr3jGwk+4E21O7gj076nN6o+xpI9vupMIr4rXiG9fDfAvrz0eb5m1Cu+48+0vfYFNTxmzNu+C8gIvnj0kb4gzlY+/QtGvaRoAb6MH7+9905YvpxMgD5JYEu+Ta/YvYSTT76/oDu+2PEBPkxnCD5Ic64+JYX/vVPdbT6J4ni8nEoKPh8ZK76yk8s+s1RfvoDaTj6rfFg8Mn8SPn8pqL5kEQc+K37cvfewXb527Y+70V0EPKgBZT6HQeI8v1gGPazOQb5OxIw+r3nRvZavST48YoI9jv7AvsOq0r2W07w9D/iSvMTMdj7Y9JU9Fy9bvnZ5kb5jZiS+gsAUPt6JpDkarH09dtOSvfybxD1bHIA+1usBvWC3z7b1RDy+ZwCpPph2Yb2Ddg0/1+mfvqDcqD6LDvu9rCxtvuLDEz3khLE+aajgPlk2wrzSoJK+Hn5WvmAlPb5w+E8+GQfKPVHr2b1bmRC+aO+lPpbkur4Oi8Y71MqGvadyC76MrO+++Nh6O2gcOb7mhLs88ToovvQIqL16kZy+F+PFvcf3dj6IMoy+KyRbPiqQj74J+wa+k3IiPmMUpr1UbIq8+DClPunTNr4RtVq9b9Vlvt63Nj+djwi/2HM4PnXC7j1eKuk8Wy/BvW+3p75mKXq9EAkxPolmC75yhw29xhRjvo+Ezz7dZao+On1iO6Za1j7MdDI+OOXxPpXnCb7j5JG+R7WOvmDhoT6sw0a+ajQSPgQsID1VDJU/WsOkPpRJvT6DgES+ojtnv1sN2D6oC5i+gf09Pj+5DD4h7Jw978azPu6Oyr4oOkk+av9VPmU+RT63Vak+eqKXuzNRhr4eXe4+dYP2PjkWGj+c5H682/U5voOyUL4NKWC+AivUPXJ+Jr76Jym+av7LPmd7lr7EyWm+IoMMvgIzDb/kfLQ+PIypPRomP76ruZi+G++fPsDKkrrQzc89q6RuPVPw575B2gy+BKzxvQcxaL99mKE+eDhTvqoaPz8/B2q+NFiyvufr3b3czUy9rSlivusfez4HHFi+FdHkPs8w5L5suIe+y5w/v7Tb2rzK15S+0hKkvcrkB74X6ne9isG0vtwdWT1MUJK+DD4mPVD66r60uNW99WobPga9zT3MjPi82AxWPcI8mby7Sb69wRFFPgiu/r6w2WO9Mj6WveDe/b2lgyC+YBhKvj/vo76VT6g+6PaBPiMrU76Kbsw98Golvot2FD5cM0M9jPCnPdSiL76B86C+GkJJvmO6Nj5NQYq91KQoPD0Dcj3ya6o+R42hvgoOXz2Ubc294gzUPSMCgD71akS+hh5KPkltOj6C6IQ9NyYWvXMoVD7tq6M+8/tKvjheJTux+lI+k0aGvXZgbb7jbhO+8vAYu5d69z2zRU29UABdPivUuz3+jAc+iH0DuyCeuT4qjec9sVYZvvchfD3KZ/M9ixH8PcYGgLyu0Ci+wD8ZvoGYtz26U6Y8JWU7PobD+729qIS9KFTSPRSOdL5Izlo+MFGavrGonD6wDc6+xT89vrTCDr61P+c+nQatvq/1Aj34XXE8XlNtvFhCkL0oZqO888YMPud6jT0TPNu93KJwvcjtqr0b+Ay8elERvje49r0ui8Q+1uCJPnP/mT1oonE97tl3PVBWVj30FJI9aeY/PYwLND6b4UK+BflHvWjqqr36Aig9OHytPBdExL3UQ9Y9DVCpvVwUOD6m6sk93huAPegwUj6Z7rw9/eDvvsRxjr4Wuse8A+2NPmKRozyPMWa8j41/PsV6kr2Yl5I9ksVzPsyv1T2c9TW9FPKgviA4MD4pZWu+LF0tvW7snr7l7709EfC7vjrgKr6TL9w9cNvpvaDuXz4DRr07FPiuPHeu9r2KCWg91qZ+vq4U3L0gSYu+zBTHvJNoFj2hwAe9gL4Yvu4gML5E/vQ8OYK3u4ZsnD18CpC+dsiEvtSpUL5bNyK9tbDiPqcTi74cPdk9VQQKvqwMGD3E+sA8XbAnPpbW072D+aO+exR+PUSSZj4tlz+920f8vG4Cg71bpoi9nDSSPYuk3z34/RE+WiiaPJ8cWD4s4QM+M42GvoQxXL6PvJQ+yk86Pqv2mz4jT7O9U4+yPgygPL0fCQu+MkXuPUqyRD5UZdq9dDGAvXFcJz0X7IC+7GB4PqUG2D0hn4G+t6rlPYJdH77h+yK+ZqTAPdhQir2p3I29iQ6ivQycNr3l+hw+74GFPtqPIj3kAVa+MP6oPb+kpTv7YVY+B2swviUN+T1VVVG+m1hWveiCOz7p61A+FiPoPj4Luj02N9k9h/TnvVvjAb4a+z4+78NavniXTT68K269mW8vPakZTr3hvVq+TIgGv91IYz5McvK90bRqPmP+Sb0lXmM8v6ePPG8n4zyMEhQ+pfK/PfbFtz0g9yQ+R0lWPvSXhD6Uu3Y9rqmBvZvYQ75zaQA+UscAvhVYG741hd29qGUbPo4qID45D0w9EhZNPomdGrxqmTa+NMmOPurh67xCAkI+3oyhPus4pb4cAGi+R2R9vTLv1zyKmRI9r+SlPhSWcD6GdYw96i+DPlN3xr4bVc2+kqWKvVpjDj5Ho+u+w0TYPYuh271Im5A+iy++vT8Nrz4Ikxe+pketPd98hb5mbdc9rh6uPpqqsr3Zh2++Le11PQ+4cj6f+ce+x1fovYieZDxpuFc+0d6EvkLcjD1Z2rA9nbKevM+ELD6O7ss9VvUuPsCExL44vy2+BLNKPW62hr5+Hya9WZUYPYYtWj6bROc+iNU0PchsCT161jq+SmI0PmWpMTzy1ee91+IovYMcyr1pnkC+uyNivSIJGb7IxKw9VKqLvttS4b3VO1c9YbPDvhz4H77bObc79toPvjtVsz4/WIs8j3j6vXskOz4usEI+XGzbPhGJor3bVK685ZYovnlgsr13rEo9y1Avvi3nij6KBp++NAjTO8sQab2jbgO+VOYBPvOqFD16ecc908FmPiCYTz4SXz4+uBtUPjpqOL6XJlk9rvXYvGVyLL7fLYs9XlgMvs9Y/b5Vml0+J3WuvsXWjrxTaCS+fsmjPgl8urz9hwW+8gR+PY6Nhr7ceIO9Gj6NvX+/4rz09wi+C2+GPa4i6L1E34C+n/8qvhCby73u+z8+a6ICvWQ5IzrS98k7acALPj8rm71mpd+8IJWwvirHgr4RQty+5d0bPkKzpj66x5+9a8flve7ZMj6NxZg+glyAPqmMVj5s14E+L5vpPMbDdb4Kjms+G2AnPWSEVb4o8jg7zooDPlygDD2siJM+GLUvvrWNDb5AosO9inZ7vCR0yb7pTpY+F3JLvtKp9D15b4E+dnqJPi4P4b3KiqK+UiBCvkbbzb3iomg++vd1Pq8E7LyvYkQ+DKpVveIegj2yaE68MborvtpN4TxN1Hc+KKdjvsYP/7siAvE9OHEJPdXUNb5kfTe9+tGgPNLktb1r0UG+pda9vd96Fz1MkN49wServuUT4r15y6M+qI6RPh56xz6b2Zw9Yfspvtvv+T4kFuq+dS6FPic+wD3C02u+jIGNvrMWxL1qq909DP2svnN6Xb4UVpg9tRrHPsWLqL10T7e9xAvxPU0WRb5dYJa+CTUSvueORD6w2KS+9zzRPtWEuj0r/to9IGjwPgi68L3g5Eq9kWDEvZxylb5pcp8+yJo7Pl48ej5AiO69V5V8vSSJqr6kN149H599PlqQ6z3TGX29NgmVveQhW7yCa1S9Dc5ovmcO5Lznxso9LjidPj//XD0JaaG+3UjhPc8jdT2tJaq9HE01vgs5YTzbt9s9IMu2PbTCZ77Eg6Y5i8khPqKVNz3eSeI+LpsrvhpbEr3Y6D++LHedPhnGUz0mS9W+vg7hPt33/T1PZR8+NdWxuxh+973q/tk9v8qzO8UQmz47Ql29bQzsPGqogT7lqis+tY0JPuu7UL2Sroa9lyJqPuRTij7gIOa9j8AdPlP6WTycOWI+zB6XPliZG76GX149wEEJPnyKID5LIRy+UIFFPmmdED6wVHO+oFsPPqVsFT3nwFa+1uYGvtZBDL1ZYRy9cYkfvcIDxT01Ei29vjMmPqZRar1DiR++zGEpvsx3ab5Vjys9SGCyvpgNM74Dv/O86i/kPWd/tL7hzjY9gzWrvi9xl7su2he7x6UGPm2wbr6zB6m9RxliPFwWwb4Jnsm+ycgYvvCbCDuY+Yg+n4lxPmzPgL1gle88ZHOoPEUnuz1FVme+v4TavYlBOb4ifEq8eCm+PWU3sT0Gb5s+sR8WvlcfOL4U17G92sCBPezt+L30BLw99G5sPeZ89T3sGo4+mUEQPY0cJb5SYIk+XRYFPhOrHT7zJ9S9PwMEviKABb5FJqm8FU0Rvpmylr66mR49mS5SvvKRg75EuZo+y05gPq5AJL6ZHTG+s/0jPn6NBD7iiiM+iF1JPmp/szybMMU81zKhvR+qmr4ipqi+RBJ9PYbi0b2W59s+Vc2iPRgmTr4VMo88/82ovqmxUjwamIc8cbpuPStXJD6oPLA9HyKpvoiAD75uzDe+j2m+POfkyj1mDJ6+4xkGvmoxkjxjFQ4+e37XPEZ2rTwR2hc+D7savwHEQL6mRm4+3xxzPpOCeD75+sU+duRlPhOBNb6vzji9+uicPsZ1KLsWTKe9Z6ocPF0wWr6btte9VfvcPW60Qb6jg9O9LaCGvvBorDsKl1I+ipCpPmANiz5Jndq9S/AMPsTc9T1gpmO+YmAMvmLyn7uT5HU9Zbv9vCfuEr2JYKm9eIGZvU5EIr5wFnk+CwjxPKhhz70z0Ua+flKdPumukTuSEZy9Iu0DPuELvj7USJe9yCrRPJWpoj2b55g+F+t5PjNHCz0Ay1K+NdCNPtIHmr3VFDK+hhK2PthFiz4GVH89B/HXPbnqAT46O8s+14ewPaGQsb2prj2+l9HSvVZZMb4ZRKs+biT8PWp8tL2vnJ89WrRvPXuRoj7oE6q9fbKIPeltLL4e1rm9iZ7hPO2q+D0dfWq+RdLnvRFjA71DVQu9Z4Z7PnE0Hb7QGfc9QkxgvgWVA7wuldQ9BGfoPdw/LD7Btl2+u7dSvtEhuzyX4I0+9ZqfvH2LrT42KY4+UvYePI1VoL2dbqM91l0UPTSRQj5Kzki+pyEjPsed97319ji+u2oAPmgqeL4OcH2+FXzlvb5OdD79tHU8JzffPXdW4D3z9BW913b5PRHpCj5f+oO+j4ITPnslg71/mgG+bGTnPQWJBz5nYqG9RCw5Pn3JwT4fM4S+DWCpvQt9Qr4/fao+BFUHvxmAAb7fnxi+kpTDvQiHlTsCs7m9arzovbzGkzy6gvA9IK0avmU2Yb0vaAu+emn9PWzEl707wj4+mBoOPgp5PL4fA9g9DFoIPg/5EL+QlXU4dHthPujcOb2X9Ae+utsuvhC3Qr6YnXu+a3jBvb4GFj0xnUW98u8vvKoHCD4WD66+iAMOPRS3Tj4QZk6+Em2wvQdc9jsLTeQ9GAYyvpENg73Xh2o9RXqWvhd8Kb14JZ693/qwPBPY77zqk2A+CErBPZ9CKj4VNFC+hpidPZqjgr4oXqA+T1FlPBmhObz4Vx09wbDLPOix6b0plDq9/sW1PceufD1tTaE+74qAPEsvgj4PGRo9DuBoPoLMqb7V6Iw9ya+Gvf1gG7yQjOQ9o8movgQYnj6acbc+FD93vsMpjj09Hx4+/AuuvGukBr6S31a+MMBqPdQu4j1kr/u+3Lm9veGCCj54jo891X+cPJuVwDwLY5G+KIXlvJtD3r1qiJK+7SIuvgDyKT6ulny9e5/Cvoql2j1DOqq9iuBMvBSeZz453os9H6JZPXg3oD45o16+qiMZvS6/gD0Wv7Q9cagVvmRz8j037LU9hoKrPQjqHT62Gai+9as/PpbRsD1fiS6+0UMGvtusBj4o3Ie9c0AKPo3QIT62R/u9U54jPiJldj3YIhG9UGTbvMIS0D2moru9OCuXPZhSUD0lo9m+XCaHvRsotb1X6di8LnhRPgQW/b2pxCG+mewoPqD2lD5PrIO9dSCNvjVPOb5edCI+AJKuvEORFD663e8+ZvZ1Pmgepb3vGI48iZ9lPso27z08XYa+zrKbPVOEkL2ECK++2vRxPk+zrz14zKQ+NyibPkMf/73KDeK91zjlvQ07u76DcKg+vFddvrZD9r1sGPk94ektvfQBlT0siDw+3LC9PSJZiL6CIow9NXCgPbnxjj7p4QW+VrKrvW9FDb5iR7Y+v9oaPqCPZL7jzzG9jgUAPG1utjyvGgC+iIl1vuCbDT62plU9QjH+O3htJL46KOG9BdkUPQj+7T2LQaQ9/oOZPtEoUj0kTJO9iTPoPIWydjzgChM+tgajvDe0hT1GNrE9udIQvn0LJz6Hzu2+rkW7PaSe/T2zCwe+mkaSPbxt3b4NwG2+LVDzPU+mRL7ydnc+bryNvcUBXD4vN9I9tP2qvdUizb4BCBE+BGDfOj4LHj4r/4C82+HJvh+SZT7kTli8ttIAPhsMGL47KZi9PUPqPDacFj7hTpc9Sx1dvqPWprtMQWy+nochvigsWT71iwA/EZ5svwTXur7OFGO7p9WpvJWL2L7kFgG+4WDGvfhhnD1X5y6/rrpDvvXZwT1lptY+Dvq9PQ2Ibj0W0jM+XuXnPTsW3by7prC9c1MmvsSflT6Smv8+9qUMPiYAIr7xXfW9T5kyvuAOET7y7K6+fNepvquCrL6YfgA+g+xhPv2Ngb4rZFS+9dVLvtBq3ToRmmw+vsFgPYxI+b68cSG+z/9Lvv8S2D6FCkI824KFPl12Qr8z3Zs+cdgzvkBL672FpTM+vI1OvogHE71LEBQ8Rib5PpYTWj6SnJI9w7YNvli0wL58z2u9/4aaPqAOAD2UqCa+EsIbPhXvO77L4hO80Qm3PTwwg7xdVRO+pCgUvoG6ib7x5Fo9cwdCPfbCcr5d15s9rNHyProXG77t7aA9vVotvTTTgL0srly+uQ1LPhKTi70JURA+HHVCPjy8pb2NNfI9UA5IvmiPHD00Mmg+QUqevCCGqL6B8/+9zJKQPbBYO745x549KvuQPvb2Pb6JGbQ9UAfDvWJA176lxWS+oWcrPm4Nir37cn492UnrPUwqrr6eGIC+COXwvSkvuL7Bsr+97fowvgrKn712y7o96wofPkasnT7Ey6U9gOguvTSyL75em8g9sYopvmrrlT0rJlm+MGQ7PmRNnD02Vbc9ZW2lPXn8kb6lm0g9q2HQPcA5JDpL/7o+jI3MPUGP5r2grxQ+9QMaPXz+or5b0km+8AmjvW3nBD2NQ0W+30qbOytEVrxoEIi+qDPMvicc777kOAm9JjuyvV4zHr2y5VY9zEMSPGEJHz57vSC+g6XdPkAPhT6khWG9c298vaNp6D3PgoA9szoYPvppPT4y6we9nDaFvhK7RD2j3A0++HyAvl2WmrwVx7Y9qJ1SvisqGD4kpoY+tXAbPjlADb4q28Y8HZF6vYFxpb2JhV8+xQeePnxm3D2xH9C9NaqjPvz9eL365Ba9gkZzPkIXsz3v2Bc9k5jCvC7Pxb0XeGi+b6oqPbKImT0AJpQ6JUAvPqvzEz4JeU29EHJ0vqhXwT3Of6q+ePNCvfE9sb6+xVs+F8DpPQyB1L0v8f++o4oevsjaNLywkgW+EtPSvsbnGL08rks+5CHCvc+SA75ncMw+7x0LPkOcCr4k9zq9g4PLPhu4XL5c0DY+BagFvZBiNL6XeJS+tYOuPtBlYD65CNe9/l8cvSP76Ly42Rm+cYiTvFRSkb4B2tU9hmVkvkFyFT5S1Ii+wU1pvaWbcr4s78A7caprvj5+mj47oni9HDc8vrDvhLxu0FE+iIE+voA+Aj4u+tU9ApI3vv4iAr57fMA97j+Uvij0jr6O0KY9h57sPAsMoL1Bx0I+yvg/vRSclT4N0O09Nh9Zvh8/x72OVre9NzM2Phm5tD3mTto8fqbBParzljuO1CW+BVxZvmIFQr6SfVS+CdwqPsqhyr1sOLM9GuwGPa7b6L2+JVa9saQ/vmg6pjvucoI+evi+Pp24iz7mV4e+d029vVumLb2dzPa8+/BUPgtprz5jh7e+eWb0PbIZ5z7vOsY9AjVAPTjupjsT/ze+mUQivom8ib4z6ni+MuyjvkDjcr7VlQ6+jaHuvF1lAb7f1aM8q4H+vNAb4L1c7Ck+ecCMvbv9Zz5RWsm7826PvRsjNb7QUJY9nutTPnv/VT4cR629eRZkva53Zb70aX8+EW2gPiVc8jwOK1W+iJONvQ8w8TyBlnq9rBq+PWa/lr39TlO9fobmPOtovL6nurG8TdBUPt/U/72VXtY8H7WIPYVwE714EuG8RDRvvj2/CTwCO3I7bnm7Pi4BhD01Fow+QOE3vnwUPz75+Lc+V04/vj52Eb5AZW+6SY+aPdBjFb5FFNc94s5pPVgmBj7jaJc+mnKCPj4flb5uqoG9H/KHvmXEVb4mKpc+VZb3PS9W5T1iH68+HAxwvKVj0D43zT0+Rt6WvLJKjz5ktOO+ZVxBPfxScr6oUl4++XPivmMUhj34t2m8C6V5vh36Vj78qjU+XAiRvjZJiT7ugiE+uLB2PseNxD35tvg+5b6ZvTRZDjqlqoA924NsvDtLTT6Ymgc+dZ27vsU7OT1oVQ6+V55oPsw+dT2k1QA/J9/aPF7q7LymB0K+OjE4PQjNqbwMbYo9JkQiPXPa17yjQom+SEKMPNnhYL3cnl4+Jpg3PrKSTz2hIL281u27Pbc51DwmVKQ9j/Gkvlmdcz7czy++xZPnvo3LXT0/oHA+Xf9VPgg1Qb3OlR4+B4DAvqZ1Gz6NlTO9TxHQPfQqhDtSdJm9nnb8Pqwiy73Lk4Y8bvynPkDIcjzWYxW+UQ0Eve07cT7uxsC7SrNbvhuzij3PBzY+QzSpPYiNMT6SFl69zuhwvdlsar64Y6k+R54Iv/Xw3LwnQN29BXM8PrvuDD49Zv89dfsjPjxLXL1ydg27MRdhvHFNrL4BeDm+Q1wHP9M+y71KqNG+o+c3vtbMkj7nvII9RhYtvovair4h+ES+rtrWPMLZhb7oU1s91ap8vclLYr3A0Fs+LAetvQiXHr7uPf09iXy2PvdlbL6r+Co+lH6gvg+ikb4ZjQe8l7vxupPD970DI+s+5b6HvvH/kD02/Xm+fMFyvfEYmDyoJ14+91fKPR4ubD7eHYo9u3RYPXMYg72iojc+cN8yvfc7PLxwq/m9NF+fvoQxMb7Jgha+6xnlvRufTr7c8ne+S5SSvuWMhr4Hj1Y8jy6DvmLOGb4Otu89YXOvvv0A0j1W2ZI+YZwCPjF6g71Qnyk+rUTMvbPROL39uCY+2oUFvvmQmD1RxDG+M8mUvZlnkTyG7nU+tpgDP4YZe7wYy2U9UoGgvBrDYb3EWEc+wG0avlnIVj0vvD4+4FeaPjK+9j08m/69cEs4PMsGYT2UCSo9M6QIPuXvBL43Iog+ehPePp9BXDsSD5m+iQPpvVOvXT3WfRY+JtQLvUzy5D0Sc7o9K6JfvYUSW74PkZi+z7x4vXeAQz3CEvg9YEa0vgThdT5JuDw9EXKVPcVDnT4kyBY9Wxm3vPbKgj5tK8y+DXOUvc+TrLyXnO29PvFnviVn8jxswCC+OTVKvbbF8z37sdw+FKHIPi9FWL7NQ5Q8exysvnUNn73HzdK9WRccvp8eW76xGIa9DCEqPsRjFr5TWcc+mJQRPTlWyD3pDTm+PaKyvN24Jz2WtOG8IRsxPU4Dgr6QXxi+BCqbPaSfv76klsa9G5MavTtEZb2eezy+c7kJPu6WGT3w38Y+vgRPPpV4Hb7yLXI88D5lvhcOTL7MhpI+ax2FvvtVXD3Vou69praGPVwUcz6smFQ+UhHFPVIpz7u8lI6+nFyauw16Br4l5kC+sQldvTcUQ70cowY8d0OlvSNXZ76CYp49sOFQPVy0Dr3DyoW+AYmDPEE0RLw3eIq8q6VvPjrnVb6+N9e8w7iqvAxxWj66me+8Em4rvFUWyDxOKaa9eLZbPfTZNz08UOO+K7SjPiTNgL4TvIS9g8ODO6u5GT27yBC+3HQ9PGMbnL7qFA6+7Fx5vgsm8b0mGTY+BGLRvI47nb6DhTe+DAEWvmlcxr6nVWc+YLwMPqb+kr4leuQ96G+nve/HDL0aY1q8FkqxPqZEgz2P2mi+Wq7nu5093D1J/fE9ZwEEPZX4yTwA1di9TlI3PgU8TT5XKI89D9eEPniUdT3j5IC7HxU8PminOb4c+y6+wt1nPifW9r3opQg/4GHpPUwwGL5JDNy9RqNqPYr2hD7x/329aIa7vVFcbT1fhgc9cBJOvuB2Gb5Yz7s+d1gzPkzIb73Lv809OtWEPW85Kz4BujG9Joc8PtNVkD5YF4G9rDdvOzIDnjw68Ds85wOsPDyGMbwRwlM+XxaiPTqZWj21VEu+6sAVvmODQj7g/Ka9aIS5PEe5Az58R487dtw3PVs0fL1l/D2+LuhsvG1dY74sPgC+1GbEPstnfT5CSIq+Yon2PSqhhbxn0gi9OxlxvtxDtD7klLS+oaBdPcWidT5cMeg+gOuTPjkntr60yQ4+0fFrPXxTXT4Rx4C+tfPcPWIIkz5HqpK+QvPaux30gb697VU+WcBNPAepB721PgG+90BnPhed2D3S8cY7VxcqPgW5DD1YC9+8+GF9PVImbz7WdNw+u/d6PN6Svz0RBvi8h1QYvoF6o74LyyI+/n4zvfGJ7T3xbcS+liquPepdL70C1o09kj3LPmVBDT7+gNc9AJRPvXaU1D3qvn2+wv6XvuWOIz4zf/c9J1EzvDU2Dz3z5Vg+8tJePvumkj10XP66tESJviOBlT7Nh1g+shGQvsjdHj4TcMe9VWaMvum/Gj707a6+OBDrupa90D3tK8K9IqeVvGi2Wr63GpI9Eg3xPZKCOLyrMwy+v9BbvtKrvT5QiUA+yh5KvgRPOD4eH7E9dKsNvndZCT1MxRO+tVA7Pr69dj6MuFy+ZmtGPl4xgz46xpI+hCsyvGdetz1r5cG9Hx1IPDN6+zyw7RA9dnVQO+FLxTzoIU+9mYH/PB6CFT1AM5A9UwsIvnGzVj2UVlK6sTqzPaUe2j135Ys8kyeWPVT5jz27zDs+KC1YvbOG+j6sefg8MgN4veLpMb4wamA66juJvZVFlTywiJk9wxnOPfi+S7yQKEA9Tqp0PpTEnD+Kwm69yE83vVElFjyvhwC7Xz6wPR1HFT2SGAu8eMZ2PoExSL4VvR08NqZYPG9o4LtEo2a7ljl+vewwPr1OhWs8/rTFvY3bKr16X/+8yRBevqLxWD3OWjY91LBNPR7/mz3Xaiy9WU/VPE4cbTxXOA89Feq8va3n3zxTcUc+JNm+Puqm974lDba92AGBPgzdVzy5mza+4bXmPnHxnT4Ybzi+gKLbvo0ZFD9dwKW+whXoPmjoBr+azcS+yuKPPmvJS75U90k/BPi3PnTRDb/7Pvw+OqEuvls0yz4njd4/mMqMPOsbGT+ojSM+97nnvsfb4L4AxLQ++OjjvgIMCT8+Qbs/Fo7YvoQ4GT49HWC7ie9uPWJdK79thqS+Mu+TvhxNNr9ufcc+O/Zovqw84b65Exm9XNT9Pb0GiT6mPcE+TCbjPXIxXL/WU2M+AxVZPq63/b7gQ3++PB4Tv9d8Bj+HIRc/9mdGPoVNnr6RMIM+DVSxPo6S+j4s6fO8VIZDvhO9v77ZI/c+lgu3PRKKgb4DizO8ywg4Pt/l5r5Uap2+Q/g6Phvr3D4sOhS/TpalPsMk6L7qxQY/26vFPoQ4jr4tuUo+Re5Jv39ot74rAA4/rcb7vp0QMD4FwMq+D6rev3IfnrzmzBm/Rasjvh1L6D4NA+I+2b60vgJx5D4Bbwm/J5e7vxFi2D6vqhu+QlwGO4xncL1sAiw/R/ejPqT+kD5DkzU/ZQbHvnewZj7Z6uA+y5oVPZd7/736moe+LxTDvm79571E7ls//TNjvudTWL77yf0+dQF9Pk8IEz9b5AW/AWIXvzUeRr5JW58+BHuCvtdPsb79jvq+gMtjvq6NZD4=", Float32Array);
const c0 = weights.subarray(0, 256);
const c1 = weights.subarray(256, 320);
const c2 = weights.subarray(320, 4416);
const c3 = weights.subarray(4416, 4480);
const c4 = weights.subarray(4480, 4608);
const c5 = weights.subarray(4608, 4610);
const golden = {
  rows: 12,
  observed: [decode("8mzWPv0iuT7Qeoc+5nNyP3TmkMAY8qG+Yl8SPhRxhT8/Pnk+HzJWvuNrQrzbdAo/Z6InwAYESD/fbbK+frqgvlJ+JcBwTco+XMOjvdsvMj/qpZ4/lwGpP96XTL1OBg3A5r1RvzMnAEDGITU+Ahkiv6XMV8A2hsk/gkGnPqJIPL+2J43AyoSJv8M7xD3z46O/2U+/v4UkQr+06Mc+SOE5Py6gFD/tU4Q+PHKVvaLQg7/54HtAgkWdP0prij6P+Ng+", Float32Array)],
  actions: decode("AAAAAAAA8D8AAAAAAAAAAAAAAAAAAPA/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA8D8AAAAAAAAAAAAAAAAAAPA/", Float64Array),
  scale: [1],
  observation(n) {
    return this.observed[0].subarray(n * 4, (n + 1) * 4);
  },
};

export { Policy };
