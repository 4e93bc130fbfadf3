// Time of one action over the golden rows, in nanoseconds.
//
//     node time_act.mjs FOLDER NAME CALLS
//
// FOLDER is of `--target web`. CALLS is the number of actions.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, name, calls] = process.argv.slice(2);
const { Policy } = await import(pathToFileURL(join(folder, `${name}.js`)));
const { observations } = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8"));
const rows = observations.map((row) => row.flat(Infinity));
const policy = new Policy();

function nanoseconds(count) {
  const before = process.hrtime.bigint();
  for (let call = 0; call < count; call++) policy.act(rows[call % rows.length]);
  return Number(process.hrtime.bigint() - before) / count;
}

nanoseconds(Number(calls)); // V8 compiles what runs often
console.log(nanoseconds(Number(calls)).toFixed(3));
