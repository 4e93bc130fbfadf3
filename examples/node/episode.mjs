// An episode of CartPole with an exported policy: node examples/node/episode.mjs
//
// The physics stand in for the robot: read your sensors in place of `state`, and send the force to
// your motor in place of `step`.
import "../browser/physics.js";
import { Policy } from "../browser/policy/cartpole.js";

const policy = new Policy();
const robot = new CartPole();
policy.reset();
while (!robot.isOver) {
  const action = policy.act(robot.state);
  robot.step(action === 1 ? CartPole.FORCE : -CartPole.FORCE);
}
console.log(`${policy.spec.env_id}: return ${robot.steps}`);
