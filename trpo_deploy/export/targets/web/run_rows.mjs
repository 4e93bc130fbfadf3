// Run the rows of a folder in the module `policy.mjs` there; see engine.py.
import { readFileSync, writeFileSync } from "node:fs";
import { Policy } from "./policy.mjs";

const { rows, hasKeys, inputs, states, action } = JSON.parse(readFileSync("rows.json", "utf8"));

function readArray({ file, type }) {
  const { buffer, byteOffset, byteLength } = readFileSync(file);
  return new globalThis[type](buffer.slice(byteOffset, byteOffset + byteLength));
}

function row({ array, shape, size }, n) {
  return shape.length ? array.subarray(n * size, (n + 1) * size) : array[n];
}

for (const each of [...inputs, ...states]) each.array = readArray(each);
const usable = new Uint8Array(rows);
const actions = new Float64Array(rows * action.size);
const policy = new Policy();
for (let n = 0; n < rows; n++) {
  for (const each of states) policy.frames[each.key].set(row(each, n));
  const values = inputs.map((each) => [each.key, row(each, n)]);
  try {
    const found = policy.act(hasKeys ? Object.fromEntries(values) : values[0][1]);
    actions.set([found].flat(Infinity), n * action.size);
    usable[n] = 1;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  for (const each of states) row(each, n).set(policy.frames[each.key]);
}
writeFileSync("usable.bin", usable);
writeFileSync("action.bin", actions);
for (const each of states) writeFileSync(each.file, each.array);
