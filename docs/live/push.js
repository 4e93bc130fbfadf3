// Forces of the visitor on the robot.

const SHOVE_SPEED = 0.4; // m/s that a shove gives to the whole robot
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

  // Pull a point of a body, given in the body's frame, to a place of the world.
  hold(body, local) {
    this.held = { body, local, target: undefined };
  }

  pullTo(target) {
    this.held.target = target;
  }

  let() {
    this.held = undefined;
  }

  // Write the forces for the next timestep into MuJoCo's data.
  apply({ model, data, timestep }) {
    const mass = model.body_subtreemass[0];
    const forces = data.xfrc_applied;
    forces.fill(0);
    this.force = undefined;
    if (this.held?.target) {
      const { body, local, target } = this.held;
      this.point = toWorld(data, body, local);
      const pull = target.map((value, i) => (value - this.point[i]) * STIFFNESS * mass);
      const size = Math.hypot(...pull);
      const scale = Math.min(1, (LARGEST * mass) / size);
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

function toWorld(data, body, local) {
  const origin = data.xpos.slice(3 * body, 3 * body + 3);
  const rows = data.xmat.slice(9 * body, 9 * body + 9);
  return [0, 1, 2].map(
    (i) => origin[i] + rows[3 * i] * local[0] + rows[3 * i + 1] * local[1] + rows[3 * i + 2] * local[2],
  );
}

// A force at a point is the force at the body's centre of mass and a torque.
function addForce(forces, data, body, [x, y, z], point) {
  const centre = data.xipos.slice(3 * body, 3 * body + 3);
  const [a, b, c] = point.map((value, i) => value - centre[i]);
  forces.set([x, y, z, b * z - c * y, c * x - a * z, a * y - b * x], 6 * body);
}
