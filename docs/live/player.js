// The policy in its environment, timestep by timestep, with what it reached so far.

const PAUSE = 1.2; // s of the simulation between a fall and the next episode
const BATCH = 200; // calls; browsers' clocks are too coarse for one
const BATCHES = 8; // the fastest counts, since the first ones wait for the compiler

export class Player {
  constructor(environment, policy, push) {
    this.environment = environment;
    this.policy = policy;
    this.push = push;
    this.restart();
    this.actionTime = this.#measureAction();
  }

  restart() {
    this.environment.reset();
    this.push.release();
    this.time = 0; // s of the simulation
    this.hasFallen = false;
    this.#startEpisode();
  }

  // Simulate one timestep of MuJoCo.
  advance() {
    const { environment } = this;
    if (environment.needsAction && !this.hasFallen) {
      environment.begin(this.policy.act(environment.observation()));
    } else if (environment.needsAction) {
      environment.begin(new Array(environment.model.nu).fill(0));
    }
    this.push.apply(environment);
    const reward = environment.advance();
    this.time += environment.timestep;
    if (reward !== undefined && !this.hasFallen) this.#count(reward);
    if (this.hasFallen && this.time >= this.restartTime) this.restart();
  }

  #startEpisode() {
    this.steps = 0;
    this.return = 0;
  }

  #count(reward) {
    const { environment } = this;
    if (this.steps === environment.task.max_episode_steps) this.#startEpisode();
    this.steps += 1;
    this.return += reward;
    if (!environment.isHealthy) {
      this.hasFallen = true;
      this.restartTime = this.time + PAUSE;
    }
  }

  // Microseconds of an action.
  #measureAction() {
    const observation = this.environment.observation();
    const times = Array.from({ length: BATCHES }, () => {
      const start = performance.now();
      for (let i = 0; i < BATCH; i++) this.policy.act(observation);
      return ((performance.now() - start) / BATCH) * 1000;
    });
    return Math.min(...times);
  }
}
