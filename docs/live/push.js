// Forces of the visitor on the robot.

const SHOVE_SPEED = 0.2; // m/s that a shove gives to the whole robot
const SHOVE_TIME = 0.1; // s
const STIFFNESS = 60; // N/m for each kg of the robot
const LARGEST = 25; // N for each kg of the robot
const TORSO = 1; // body 0 is the world

export class Push {
  constructor() {
    this.release();
  }

  release() {
    this.shoveLeft = 0;
    this.held = undefined;
    this.force = undefined; // newtons, for the view's arrow
    this.point = undefined; // where it acts, in the world
  }

  // Shove the torso in a direction of the world.
  shove(direction) {
    this.direction = direction;
    this.shoveLeft = SHOVE_TIME;
  }

  // Take a body at a point of the world.
  hold(data, body, point) {
    this.held = { body, local: toLocal(data, body, point), target: point };
    this.point = point;
  }

  // Pull the body towards a place of the world.
  pullTo(target) {
    this.held.target = target;
  }

  letGo() {
    this.held = undefined;
  }

  // Write the forces for the next timestep into MuJoCo's data.
  apply({ model, data, timestep }) {
    const mass = model.body_subtreemass[0];
    const forces = data.xfrc_applied;
    forces.fill(0);
    this.force = undefined;
    if (this.held) {
      const { body, local, target } = this.held;
      this.point = toWorld(data, body, local);
      const pull = target.map((value, i) => (value - this.point[i]) * STIFFNESS * mass);
      const scale = Math.min(1, (LARGEST * mass) / Math.hypot(...pull, 1e-9));
      this.force = pull.map((value) => value * scale);
      addForce(forces, data, body, this.force, this.point);
    } else if (this.shoveLeft > 0) {
      this.shoveLeft -= timestep;
      this.point = [...data.xipos.slice(3 * TORSO, 3 * TORSO + 3)];
      this.force = this.direction.map((value) => (value * mass * SHOVE_SPEED) / SHOVE_TIME);
      addForce(forces, data, TORSO, this.force, this.point);
    }
  }
}

// A point of a body's frame in the world, and the other way.
function toWorld(data, body, local) {
  const r = data.xmat.slice(9 * body, 9 * body + 9); // row after row
  return [0, 1, 2].map(
    (i) => data.xpos[3 * body + i] + [0, 1, 2].reduce((sum, j) => sum + r[3 * i + j] * local[j], 0),
  );
}

function toLocal(data, body, point) {
  const r = data.xmat.slice(9 * body, 9 * body + 9);
  const way = point.map((value, i) => value - data.xpos[3 * body + i]);
  return [0, 1, 2].map((j) => [0, 1, 2].reduce((sum, i) => sum + r[3 * i + j] * way[i], 0));
}

// A force at a point is the force at the body's centre of mass and a torque.
function addForce(forces, data, body, [x, y, z], point) {
  const centre = data.xipos.slice(3 * body, 3 * body + 3);
  const [a, b, c] = point.map((value, i) => value - centre[i]);
  forces.set([x, y, z, b * z - c * y, c * x - a * z, a * y - b * x], 6 * body);
}
