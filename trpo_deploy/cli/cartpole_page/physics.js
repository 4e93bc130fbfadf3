// CartPole-v1 as in Gymnasium 1.x (gymnasium/envs/classic_control/cartpole.py, after Barto, Sutton
// and Anderson, 1983), for pages and Node: defines the global CartPole.

globalThis.CartPole = class CartPole {
  static PERIOD = 0.02; // s
  static FORCE = 10; // N
  static MAX_STEPS = 500;
  static HALF_TRACK = 2.4; // m
  static MAX_ANGLE = (12 * 2 * Math.PI) / 360; // rad
  static POLE_LENGTH = 1; // m

  constructor() {
    this.reset();
  }

  // Start an episode, each number of the state drawn from [-0.05, 0.05].
  reset(state = Array.from({ length: 4 }, () => (Math.random() - 0.5) / 10)) {
    this.state = state; // position, velocity, angle of the pole, its velocity
    this.steps = 0;
    this.isOver = false;
    return this.state;
  }

  // Push the cart for one period; CartPole-v1 itself has the forces -10 N and 10 N only.
  step(force) {
    const [x, v, angle, spin] = this.state;
    const gravity = 9.8;
    const poleMass = 0.1;
    const totalMass = 1.1;
    const half = CartPole.POLE_LENGTH / 2;
    const sin = Math.sin(angle);
    const cos = Math.cos(angle);
    const push = (force + poleMass * half * spin * spin * sin) / totalMass;
    const spinChange =
      (gravity * sin - cos * push) / (half * (4 / 3 - (poleMass * cos * cos) / totalMass));
    const acceleration = push - (poleMass * half * spinChange * cos) / totalMass;
    const t = CartPole.PERIOD;
    this.state = [x + t * v, v + t * acceleration, angle + t * spin, spin + t * spinChange];
    this.steps += 1;
    this.hasFallen =
      Math.abs(this.state[0]) > CartPole.HALF_TRACK || Math.abs(this.state[2]) > CartPole.MAX_ANGLE;
    this.isOver = this.hasFallen || this.steps >= CartPole.MAX_STEPS;
    return this.state;
  }
};
