// Two CartPoles side by side: the visitor pushes one, the exported policy the other.
"use strict";

const KEYS = { arrowleft: -1, a: -1, arrowright: 1, d: 1 };
const PAUSE = 1.5; // seconds between two episodes of the policy

// One cart: its episode, its canvas, and whoever pushes it.
class Lane {
  constructor(id) {
    this.root = document.getElementById(id);
    this.canvas = this.root.querySelector("canvas");
    this.physics = new CartPole();
    this.before = this.physics.state;
    this.force = 0;
    this.best = 0;
    this.held = 0; // side of the canvas that is held: -1, 0 or 1
    this.canvas.addEventListener("pointerdown", (event) => {
      const { left, width } = this.canvas.getBoundingClientRect();
      this.canvas.setPointerCapture(event.pointerId);
      this.held = event.clientX < left + width / 2 ? -1 : 1;
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => (this.held = 0));
    }
  }

  restart() {
    this.before = this.physics.reset();
    this.force = 0;
    this.say("");
  }

  step() {
    this.before = this.physics.state;
    this.force = this.push();
    this.physics.step(this.force);
    this.best = Math.max(this.best, this.physics.steps);
    this.root.querySelector(".steps").textContent = this.physics.steps;
    this.root.querySelector(".best").textContent = `best ${this.best}`;
    if (this.physics.isOver) this.say(this.result());
  }

  result() {
    const { steps, hasFallen } = this.physics;
    return hasFallen ? `Fell after ${steps} steps.` : `Upright for all ${steps} steps.`;
  }

  say(text) {
    this.root.querySelector(".status").textContent = text;
  }

  // `part` of the way from the state before the last step to the one after it.
  draw(part) {
    const { state } = this.physics;
    const [x, , angle] = state.map((value, i) => this.before[i] + (value - this.before[i]) * part);
    drawCart(this.canvas, x, angle, this.force);
  }
}

class YourLane extends Lane {
  constructor() {
    super("you");
    this.keys = new Set();
    this.isWaiting = true;
    this.say("Press ← or → to start, or hold a side.");
    addEventListener("keydown", (event) => {
      const key = event.key.toLowerCase();
      const isShortcut = event.ctrlKey || event.altKey || event.metaKey;
      if (!(key in KEYS) || isShortcut || event.target.matches("select")) return;
      event.preventDefault();
      this.keys.add(key);
    });
    addEventListener("keyup", (event) => this.keys.delete(event.key.toLowerCase()));
    addEventListener("blur", () => this.keys.clear());
  }

  push() {
    const sides = [...this.keys].map((key) => KEYS[key]);
    return CartPole.FORCE * Math.sign(sides.reduce((sum, side) => sum + side, this.held));
  }

  advance() {
    const isPushed = this.keys.size > 0 || this.held !== 0;
    if (this.physics.isOver) {
      // Wait until the keys are up, so that the last push does not start the next episode.
      this.isReleased = this.isReleased || !isPushed;
      if (!(isPushed && this.isReleased)) return;
      this.restart();
    } else if (this.isWaiting && !isPushed) {
      return;
    } else if (this.isWaiting) {
      this.isWaiting = false;
      this.say("");
    }
    this.isReleased = false;
    this.step();
  }

  result() {
    return `${super.result()} Press ← or → to try again.`;
  }
}

class PolicyLane extends Lane {
  constructor() {
    super("policy");
    this.policy = new cartpole.Policy();
    this.pause = 0;
  }

  push() {
    const action = this.policy.act(this.physics.state);
    return CartPole.FORCE * (action === 1 ? 1 : -1) + CartPole.FORCE * this.held;
  }

  advance() {
    if (!this.physics.isOver) {
      this.step();
    } else if ((this.pause += CartPole.PERIOD) >= PAUSE) {
      this.pause = 0;
      this.restart();
    }
  }
}

function drawCart(canvas, x, angle, force) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = devicePixelRatio;
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const style = getComputedStyle(canvas);
  const color = (name) => style.getPropertyValue(name);
  const context = canvas.getContext("2d");
  const metre = width / (2 * CartPole.HALF_TRACK + 1);
  const ground = height * 0.8;
  const centre = width / 2 + x * metre;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.lineCap = "round";

  const line = (points, lineWidth, strokeStyle) => {
    Object.assign(context, { lineWidth, strokeStyle });
    context.beginPath();
    points.forEach(([px, py]) => context.lineTo(px, py));
    context.stroke();
  };
  const end = CartPole.HALF_TRACK * metre;
  line([[width / 2 - end, ground], [width / 2 + end, ground]], 2, color("--line"));
  for (const side of [-end, end]) {
    line([[width / 2 + side, ground - 8], [width / 2 + side, ground + 8]], 2, color("--line"));
  }

  const cart = { width: 0.5 * metre, height: 0.26 * metre };
  const top = ground - cart.height - 6;
  context.fillStyle = color("--cart");
  context.beginPath();
  context.roundRect(centre - cart.width / 2, top, cart.width, cart.height, 6);
  context.fill();
  for (const side of [-0.3, 0.3]) {
    context.beginPath();
    context.arc(centre + side * cart.width, ground - 6, 6, 0, 2 * Math.PI);
    context.fill();
  }

  if (force) {
    const side = Math.sign(force);
    const tail = centre + side * (cart.width / 2 + 8);
    const tip = tail + side * Math.abs(force) * 2.4;
    const y = top + cart.height / 2;
    line([[tail, y], [tip, y]], 3, color("--accent"));
    line([[tip - side * 7, y - 6], [tip, y], [tip - side * 7, y + 6]], 3, color("--accent"));
  }

  const length = CartPole.POLE_LENGTH * metre * 1.6; // drawn longer, to be seen better
  const joint = [centre, top + 4];
  const tip = [centre + length * Math.sin(angle), top + 4 - length * Math.cos(angle)];
  line([joint, tip], 9, color("--accent"));
  context.fillStyle = color("--card");
  context.beginPath();
  context.arc(...joint, 3, 0, 2 * Math.PI);
  context.fill();
}

function microseconds(policy) {
  const calls = 2000;
  const start = performance.now();
  for (let i = 0; i < calls; i++) policy.act([0, 0, 0.01, 0]);
  return ((performance.now() - start) / calls) * 1000;
}

function main() {
  const lanes = [new YourLane(), new PolicyLane()];
  const speed = document.getElementById("speed");
  const { policy } = lanes[1];
  microseconds(policy); // the first calls are slower, while the browser compiles
  document.getElementById("facts").textContent =
    `One action takes ${microseconds(policy).toFixed(0)} µs. ` +
    `Largest error of the self-test: ${policy.selfTest()}.`;
  let last = performance.now();
  let left = 0; // seconds that are not yet played

  setInterval(() => {
    const now = performance.now();
    left = Math.min(left + ((now - last) / 1000) * Number(speed.value), 0.1);
    last = now;
    for (; left >= CartPole.PERIOD; left -= CartPole.PERIOD) {
      for (const lane of lanes) lane.advance();
    }
  }, 5);

  requestAnimationFrame(function draw() {
    for (const lane of lanes) lane.draw(Math.min(left / CartPole.PERIOD, 1));
    requestAnimationFrame(draw);
  });
}

main();
