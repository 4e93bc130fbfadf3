// Play actions in the live page's environment, and ask its policy for one at each observation.
// Arguments: MuJoCo's module, environment.js, the folder of a model; on stdin, a list of first states
// with actions.

import { readFileSync } from "node:fs";

const [mujocoUrl, environmentUrl, folderUrl] = process.argv.slice(2);
const load = (await import(mujocoUrl)).default;
const { Environment } = await import(environmentUrl);
const { task } = await import(`${folderUrl}/task.js`);
const { Policy } = await import(`${folderUrl}/policy.js`);
const plans = JSON.parse(readFileSync(0));

const xml = readFileSync(new URL(`${folderUrl}/robot.xml`), "utf8");
const environment = new Environment(await load(), xml, task);
const policy = new Policy();

function play({ qpos, qvel, actions }) {
  environment.reset(qpos, qvel);
  const rows = [];
  let reward = 0;
  for (const action of [...actions, undefined]) {
    const observation = environment.observation();
    const { isHealthy } = environment;
    rows.push({ observation, reward, isHealthy, action: policy.act(observation) });
    if (action !== undefined) reward = environment.step(action);
  }
  return rows;
}

console.log(JSON.stringify(plans.map(play)));
