// The robot and its ground in three.js, from MuJoCo's geoms. Both have z upwards.

import * as THREE from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";

const SQUARES = 64; // of the ground, each 1 m wide
const RISE = 3; // 1/s, how fast the camera follows the robot up and down
const ARROW = 0.08; // metres for each newton per kilogram of the robot

// From the robot to the camera, in metres.
const CAMERA = { Swimmer: [-1, -4.5, 4], Ant: [-1.5, -4.5, 2], default: [0.9, -4.2, 0.8] };

const SHOWN = { width: 2.4, height: 2 }; // metres around the robot
const WIDEST = 80; // degrees of the field of view

export class View {
  // Draw on `canvas`, with the robot in the part that `stage` covers.
  constructor(canvas, stage) {
    this.canvas = canvas;
    this.stage = stage;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true });
    this.renderer.shadowMap.enabled = true;
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(40, 1, 0.05, 60);
    this.camera.up.set(0, 0, 1);
    this.orbit = new OrbitControls(this.camera, canvas);
    Object.assign(this.orbit, { minDistance: 1.5, maxDistance: 15, maxPolarAngle: 1.5 });
    this.orbit.enablePan = false;
    this.#addLight();
    this.#addGround();
    this.arrow = new THREE.ArrowHelper(new THREE.Vector3(1, 0, 0));
    this.arrow.visible = false;
    this.scene.add(this.arrow);
    this.robot = new THREE.Group();
    this.scene.add(this.robot);
    this.centre = { from: new THREE.Vector3(), to: new THREE.Vector3() };
    this.#paint();
    const observer = new ResizeObserver(() => this.#fit());
    for (const element of [canvas, stage]) observer.observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
  }

  // Show the robot of an environment.
  show(environment) {
    this.environment = environment;
    for (const { geometry, material } of this.robot.children) {
      geometry.dispose();
      material.dispose();
    }
    this.robot.clear();
    const { model, data } = environment;
    const types = environment.mujoco.mjtGeom;
    for (let geom = 0; geom < model.ngeom; geom++) {
      if (model.geom_type[geom] === types.mjGEOM_PLANE.value) {
        this.ground.position.z = data.geom_xpos[3 * geom + 2];
      } else {
        this.robot.add(makeGeom(model, geom, types));
      }
    }
    this.#paint();
    this.jump();
    this.camera.position.fromArray(CAMERA[environment.family] ?? CAMERA.default);
    this.camera.position.add(this.orbit.target);
  }

  // Show the poses without a way from those before.
  jump() {
    this.record();
    this.record();
    const way = this.centre.to.clone().sub(this.orbit.target);
    this.orbit.target.add(way);
    this.camera.position.add(way);
  }

  // Remember the poses after a timestep, to draw between them and those before it.
  record() {
    const { geom_xpos, geom_xmat, subtree_com } = this.environment.data;
    this.centre.from.copy(this.centre.to);
    this.centre.to.fromArray(subtree_com, 3); // MuJoCo's tracking cameras follow it, too
    for (const part of this.robot.children) {
      const { geom, from, to } = part.userData;
      from.position.copy(to.position);
      from.quaternion.copy(to.quaternion);
      to.position.fromArray(geom_xpos, 3 * geom);
      ROTATION.set(
        ...geom_xmat.subarray(9 * geom, 9 * geom + 3), 0,
        ...geom_xmat.subarray(9 * geom + 3, 9 * geom + 6), 0,
        ...geom_xmat.subarray(9 * geom + 6, 9 * geom + 9), 0,
        0, 0, 0, 1,
      );
      to.quaternion.setFromRotationMatrix(ROTATION);
    }
  }

  // Draw `part` of the way from the poses before the last timestep to those after it.
  draw(part, seconds, push) {
    for (const mesh of this.robot.children) {
      const { from, to } = mesh.userData;
      mesh.position.lerpVectors(from.position, to.position, part);
      mesh.quaternion.slerpQuaternions(from.quaternion, to.quaternion, part);
    }
    this.#follow(part, seconds);
    this.#drawPush(push);
    this.renderer.render(this.scene, this.camera);
  }

  // What of the robot is at a place of the page: its body, the point in the world, or undefined.
  pick(event) {
    const [hit] = this.#ray(event).intersectObjects(this.robot.children);
    return hit && { body: hit.object.userData.body, point: hit.point.toArray() };
  }

  // The place of the world that a pointer means, in the plane of a point that faces the camera.
  placeAt(event, point) {
    const normal = this.camera.getWorldDirection(new THREE.Vector3());
    const plane = new THREE.Plane().setFromNormalAndCoplanarPoint(normal, new THREE.Vector3(...point));
    return this.#ray(event).ray.intersectPlane(plane, new THREE.Vector3()).toArray();
  }

  #ray({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const x = (2 * (clientX - left)) / width - 1;
    const y = 1 - (2 * (clientY - top)) / height;
    const raycaster = new THREE.Raycaster();
    raycaster.setFromCamera(new THREE.Vector2(x, y), this.camera);
    return raycaster;
  }

  #follow(part, seconds) {
    const way = new THREE.Vector3().lerpVectors(this.centre.from, this.centre.to, part);
    way.sub(this.orbit.target);
    way.z *= 1 - Math.exp(-RISE * seconds);
    this.orbit.target.add(way);
    this.camera.position.add(way);
    this.orbit.update();
    const { x, y } = this.orbit.target;
    this.ground.position.x = 2 * Math.round(x / 2); // two squares are one period of the pattern
    this.ground.position.y = 2 * Math.round(y / 2);
    this.sun.target.position.set(x, y, 0);
    this.sun.position.set(x - 3, y - 4, 8);
  }

  #drawPush({ force, point }) {
    this.arrow.visible = force !== undefined;
    if (!this.arrow.visible) return;
    const direction = new THREE.Vector3(...force);
    const length = (direction.length() * ARROW) / this.environment.model.body_subtreemass[0];
    this.arrow.position.set(...point);
    this.arrow.setDirection(direction.normalize());
    this.arrow.setLength(0.2 + length, 0.14, 0.09);
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const stage = this.stage.getBoundingClientRect();
    const metre = Math.min(stage.width / SHOWN.width, stage.height / SHOWN.height); // pixels
    const distance = new THREE.Vector3(...CAMERA.default).length();
    const angle = 2 * Math.atan(height / metre / 2 / distance);
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.fov = Math.min(THREE.MathUtils.radToDeg(angle), WIDEST);
    // What is in the middle of the picture comes into the middle of the stage.
    const down = height / 2 - (stage.top + stage.height / 2);
    this.camera.setViewOffset(width, height, 0, down, width, height);
  }

  #addLight() {
    this.scene.add(new THREE.HemisphereLight(0xffffff, 0x8899aa, 1.6));
    this.sun = new THREE.DirectionalLight(0xffffff, 2.2);
    this.sun.castShadow = true;
    this.sun.shadow.mapSize.set(1024, 1024);
    Object.assign(this.sun.shadow.camera, { left: -3, right: 3, top: 3, bottom: -3, far: 20 });
    this.sun.shadow.bias = -0.0005;
    this.scene.add(this.sun, this.sun.target);
  }

  #addGround() {
    this.squares = new THREE.DataTexture(new Uint8Array(16), 2, 2);
    Object.assign(this.squares, { wrapS: THREE.RepeatWrapping, wrapT: THREE.RepeatWrapping });
    this.squares.repeat.set(SQUARES / 2, SQUARES / 2);
    this.squares.colorSpace = THREE.SRGBColorSpace;
    this.ground = new THREE.Mesh(
      new THREE.PlaneGeometry(SQUARES, SQUARES),
      new THREE.MeshStandardMaterial({ map: this.squares, roughness: 1 }),
    );
    this.ground.receiveShadow = true;
    this.scene.add(this.ground);
  }

  // Take the colours of the style sheet.
  #paint() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => new THREE.Color(style.getPropertyValue(`--${name}`).trim());
    const sky = color("sky");
    this.scene.background = sky;
    this.scene.fog = new THREE.Fog(sky, 8, 26);
    const square = (name) => [...color(name).convertLinearToSRGB().toArray().map((v) => 255 * v), 255];
    const [dark, light] = [square("line"), square("ground")];
    this.squares.image.data.set([...dark, ...light, ...light, ...dark]);
    this.squares.needsUpdate = true;
    for (const mesh of this.robot.children) mesh.material.color = color(mesh.userData.color);
    this.arrow.setColor(color("force"));
  }
}

const ROTATION = new THREE.Matrix4();

function makeGeom(model, geom, types) {
  const body = model.geom_bodyid[geom];
  const color = colorOf(model, geom, body);
  const material = new THREE.MeshStandardMaterial({ roughness: 0.5, metalness: 0.05 });
  // The legs of planar robots go through each other; one of them has to be in front.
  Object.assign(material, { polygonOffset: color === "far-limb", polygonOffsetFactor: 1 });
  const size = model.geom_size.slice(3 * geom, 3 * geom + 3);
  const mesh = new THREE.Mesh(shape(model.geom_type[geom], size, types), material);
  mesh.castShadow = true;
  mesh.receiveShadow = true;
  mesh.userData = { geom, body, color, from: pose(), to: pose() };
  return mesh;
}

// MuJoCo's capsules and cylinders lie along z, those of three.js along y.
function shape(type, [a, b, c], types) {
  const upright = (geometry) => geometry.rotateX(Math.PI / 2);
  switch (type) {
    case types.mjGEOM_SPHERE.value:
      return new THREE.SphereGeometry(a, 32, 24);
    case types.mjGEOM_CAPSULE.value:
      return upright(new THREE.CapsuleGeometry(a, 2 * b, 12, 28));
    case types.mjGEOM_CYLINDER.value:
      return upright(new THREE.CylinderGeometry(a, a, 2 * b, 28));
    case types.mjGEOM_ELLIPSOID.value:
      return new THREE.SphereGeometry(1, 32, 24).scale(a, b, c);
    case types.mjGEOM_BOX.value:
      return new THREE.BoxGeometry(2 * a, 2 * b, 2 * c);
    default:
      throw new Error(`the page draws no geom of MuJoCo's type ${type}`);
  }
}

// The torso, the limbs, and the limbs to which the XML gives a colour of their own.
function colorOf(model, geom, body) {
  if (body === 1) return "accent";
  const first = Array.from(model.geom_bodyid).indexOf(1);
  const rgba = (index) => model.geom_rgba.slice(4 * index, 4 * index + 4).join();
  return rgba(geom) === rgba(first) ? "robot" : "far-limb";
}

function pose() {
  return { position: new THREE.Vector3(), quaternion: new THREE.Quaternion() };
}
