// Run cases in onnxruntime for JavaScript, as a process of its own; see case.py.
//
//     node run_cases.mjs PACKAGE HOME CASE ...
//
// HOME is the absolute path of a folder with the package in its node_modules.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [packageName, home, ...folders] = process.argv.slice(2);
const ort = createRequire(join(home, "package.json"))(packageName);
const arrays = {
  bool: Uint8Array, float32: Float32Array, float64: Float64Array, int8: Int8Array,
  int16: Int16Array, int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array, uint16: Uint16Array,
};

function readTensor({ dtype, shape }, path, rows) {
  const { buffer, byteOffset, byteLength } = readFileSync(path);
  const values = new arrays[dtype](buffer.slice(byteOffset, byteOffset + byteLength));
  return new ort.Tensor(dtype, values, [rows, ...shape]);
}

async function run(folder) {
  const { inputs, outputs, batches } = JSON.parse(readFileSync(join(folder, "case.json"), "utf8"));
  const session = await ort.InferenceSession.create(join(folder, "policy.onnx"));
  let types;
  for (const [batch, rows] of batches.entries()) {
    const tensors = inputs.map((each, number) => [
      each.name, readTensor(each, join(folder, `${batch}.input.${number}`), rows),
    ]);
    const found = await session.run(Object.fromEntries(tensors));
    for (const [number, { name }] of outputs.entries()) {
      const values = Float64Array.from(found[name].data, Number);
      writeFileSync(join(folder, `${batch}.output.${number}`), values);
    }
    types = Object.fromEntries(outputs.map(({ name }) => [name, found[name].type]));
  }
  return { types };
}

if (packageName === "onnxruntime-web") ort.env.wasm.numThreads = 1;
const version = ort.env.versions.common;
for (const folder of folders) {
  const found = await run(folder).catch((error) => ({ error: error.message.replace(/\s+/g, " ") }));
  writeFileSync(join(folder, "found.json"), JSON.stringify({ version, ...found }));
}
