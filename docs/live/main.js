// The page: load MuJoCo and a model, then play it.

import loadMujoco from "@mujoco/mujoco";
import { Controls } from "./controls.js";
import { Environment } from "./environment.js";
import { Player } from "./player.js";
import { RobotDrag } from "./pointer.js";
import { Push } from "./push.js";
import { View } from "./view.js";

const LONGEST = 0.1; // s that a frame may make up for; a slow computer plays slower
const FALLEN = "The episode ended: it fell or jumped too high. It starts again.";

class Page {
  constructor(mujoco) {
    this.mujoco = mujoco;
    this.view = new View(document.getElementById("view"), document.getElementById("stage"));
    this.left = 0; // s that are not yet played
    this.hadFallen = false;
    this.controls = new Controls({
      choose: (model) => this.choose(model),
      shove: (direction) => this.player?.push.shove(direction),
      restart: () => this.restart(),
    });
    this.drag = new RobotDrag(this.view, () => this.player);
    addEventListener("hashchange", () => this.chooseByAddress());
  }

  // Load the model that the address names, as in #Ant-v5, or the one that is marked.
  chooseByAddress() {
    this.controls.select(location.hash.slice(1));
    return this.choose(this.controls.model);
  }

  // Load a model and show it. The last choice wins.
  async choose(model) {
    this.model = model;
    history.replaceState(null, "", `#${model}`);
    this.controls.say(`Loading ${model}…`);
    try {
      const { xml, task, Policy } = await load(model);
      if (this.model !== model) return;
      const before = this.player?.environment;
      const environment = new Environment(this.mujoco, xml, task);
      this.player = new Player(environment, new Policy(), new Push());
      this.view.show(environment);
      before?.delete();
      this.controls.say("");
    } catch (error) {
      if (this.model === model) this.controls.say(`${model} did not load: ${error.message}`);
    }
  }

  restart() {
    if (!this.player) return;
    this.player.restart();
    this.view.jump();
  }

  play(now) {
    const seconds = Math.min((now - (this.last ?? now)) / 1000, LONGEST);
    this.last = now;
    if (this.player) {
      const { player, controls } = this;
      const { timestep } = player.environment;
      this.drag.update();
      if (!controls.isPaused) this.left += seconds * controls.speed;
      for (; this.left >= timestep; this.left -= timestep) {
        player.advance();
        this.view.record();
      }
      this.view.draw(this.left / timestep, seconds, player.push);
      controls.show(player);
      this.#tell(player);
    }
    requestAnimationFrame((time) => this.play(time));
  }

  #tell({ hasFallen }) {
    if (hasFallen !== this.hadFallen) this.controls.say(hasFallen ? FALLEN : "");
    this.hadFallen = hasFallen;
  }
}

async function load(model) {
  const folder = new URL(`models/${model}/`, import.meta.url);
  const file = (name) => new URL(name, folder).href;
  const [xml, { task }, { Policy }] = await Promise.all([
    fetchText(file("robot.xml")),
    import(file("task.js")),
    import(file("policy.js")),
  ]);
  return { xml, task, Policy };
}

async function fetchText(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: status ${answer.status}`);
  return answer.text();
}

async function start() {
  try {
    const page = new Page(await loadMujoco());
    await page.chooseByAddress();
    requestAnimationFrame((now) => page.play(now));
    return page;
  } catch (error) {
    const reason = `This page needs WebGL and WebAssembly (${error.message}).`;
    document.getElementById("status").textContent = reason;
    throw error;
  }
}

export const page = start();
