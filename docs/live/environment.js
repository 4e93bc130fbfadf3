// A MuJoCo task as Gymnasium defines it (gymnasium/envs/mujoco): state, observation and reward.
// `task` has the arguments of Gymnasium's environment by their names; the build writes it.

// What Gymnasium's classes do and their arguments do not tell.
const CLIPS_VELOCITIES = ["Hopper", "Walker2d"];
const VELOCITY_LIMIT = 10;
const DRAWS_NORMAL_VELOCITIES = ["HalfCheetah", "Ant"];

export class Environment {
  constructor(mujoco, xml, task) {
    this.mujoco = mujoco;
    this.task = task;
    this.arguments = task.arguments;
    this.model = mujoco.MjModel.from_xml_string(xml);
    this.data = new mujoco.MjData(this.model);
    this.timestep = this.model.opt.timestep; // s
    this.family = task.id.split("-")[0];
    this.isAnt = this.family === "Ant";
    this.reset();
  }

  // Free the memory of MuJoCo.
  delete() {
    this.data.delete();
    this.model.delete();
  }

  // Start an episode near the initial pose, or in a given state.
  reset(qpos, qvel) {
    const { mujoco, model, data } = this;
    mujoco.mj_resetData(model, data);
    const scale = this.arguments.reset_noise_scale;
    const velocityNoise = DRAWS_NORMAL_VELOCITIES.includes(this.family) ? normal : uniform;
    data.qpos.set(qpos ?? Array.from(data.qpos, (value) => value + scale * uniform()));
    data.qvel.set(qvel ?? Array.from(data.qvel, () => scale * velocityNoise()));
    mujoco.mj_forward(model, data);
    this.left = 0;
  }

  // Whether the next timestep begins a step of the environment, and so needs an action.
  get needsAction() {
    return this.left === 0;
  }

  begin(action) {
    this.action = action;
    this.before = this.#forwardPosition();
    this.data.ctrl.set(action);
    this.left = this.arguments.frame_skip;
  }

  // Simulate one timestep of MuJoCo. Return the reward if it ends a step of the environment.
  advance() {
    this.mujoco.mj_step(this.model, this.data);
    this.left -= 1;
    if (this.left > 0) return undefined;
    this.mujoco.mj_rnePostConstraint(this.model, this.data); // contact forces, cfrc_ext
    return this.#reward();
  }

  step(action) {
    this.begin(action);
    for (;;) {
      const reward = this.advance();
      if (reward !== undefined) return reward;
    }
  }

  observation() {
    const { qpos, qvel } = this.data;
    const skipped = this.task.observation.skipped_qpos;
    const velocities = CLIPS_VELOCITIES.includes(this.family)
      ? Array.from(qvel, (value) => clip(value, -VELOCITY_LIMIT, VELOCITY_LIMIT))
      : qvel;
    const forces = this.task.observation.cfrc_ext ? this.#contactForces().slice(6) : [];
    return [...qpos.slice(skipped), ...velocities, ...forces];
  }

  // False once the robot has fallen, or jumped higher than Gymnasium allows. HalfCheetah and Swimmer
  // have no ranges.
  get isHealthy() {
    const { qpos, qvel } = this.data;
    const { healthy_z_range, healthy_angle_range, healthy_state_range } = this.arguments;
    const isWithin = (value, range) => range === undefined || (value > range[0] && value < range[1]);
    const [z, angle] = this.isAnt ? [qpos[2], 0] : [qpos[1], qpos[2]];
    const state = [...qpos.slice(2), ...qvel];
    return (
      isWithin(z, healthy_z_range) &&
      isWithin(angle, healthy_angle_range) &&
      state.every((value) => Number.isFinite(value) && isWithin(value, healthy_state_range))
    );
  }

  #reward() {
    const { forward_reward_weight, healthy_reward, ctrl_cost_weight, contact_cost_weight } =
      this.arguments;
    const velocity = (this.#forwardPosition() - this.before) / this.task.period;
    let reward = forward_reward_weight * velocity - ctrl_cost_weight * sumOfSquares(this.action);
    if (healthy_reward && this.isHealthy) reward += healthy_reward;
    if (contact_cost_weight) reward -= contact_cost_weight * sumOfSquares(this.#contactForces());
    return reward;
  }

  // Ant measures the position of its torso, which MuJoCo computes before it integrates qpos.
  #forwardPosition() {
    return this.isAnt ? this.data.xpos[3] : this.data.qpos[0];
  }

  #contactForces() {
    const [low, high] = this.arguments.contact_force_range;
    return Array.from(this.data.cfrc_ext, (force) => clip(force, low, high));
  }
}

function clip(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function sumOfSquares(values) {
  return values.reduce((sum, value) => sum + value * value, 0);
}

function uniform() {
  return 2 * Math.random() - 1;
}

// Box and Muller (1958)
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
