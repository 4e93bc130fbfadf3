// Buttons, keys and figures of the page.

const element = (id) => document.getElementById(id);

export class Controls {
  constructor({ choose, shove, restart }) {
    this.speed = 1;
    this.isPaused = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.notice = this.isPaused ? "Paused, since your system asks for less motion. Press Play." : "";
    this.#onChange("model", (input) => choose(input.value));
    this.#onChange("speed", (input) => (this.speed = Number(input.value)));
    const actions = {
      "push-back": () => shove([-1, 0, 0]),
      "push-forward": () => shove([1, 0, 0]),
      pause: () => this.#togglePause(),
      reset: restart,
    };
    for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", action);
    this.#listenToKeys(actions);
    this.#showPause();
  }

  // Mark a model if the page has it.
  select(model) {
    const inputs = [...document.querySelectorAll('input[name="model"]')];
    const input = inputs.find((each) => each.value === model);
    if (input) input.checked = true;
  }

  // The marked model.
  get model() {
    return document.querySelector('input[name="model"]:checked').value;
  }

  say(text) {
    element("status").textContent = text || this.notice;
  }

  show({ environment, steps, time, actionTime, return: value }) {
    element("return").textContent = Math.round(value).toLocaleString("en");
    element("steps").textContent = steps;
    element("limit").textContent = ` of ${environment.task.max_episode_steps}`;
    element("time").textContent = time.toFixed(1);
    element("action-time").textContent = actionTime.toFixed(1);
  }

  #onChange(name, action) {
    for (const input of document.querySelectorAll(`input[name="${name}"]`)) {
      input.addEventListener("change", () => action(input));
    }
  }

  #listenToKeys(actions) {
    const keys = { ArrowLeft: "push-back", ArrowRight: "push-forward", " ": "pause", r: "reset" };
    addEventListener("keydown", (event) => {
      const isShortcut = event.ctrlKey || event.altKey || event.metaKey;
      // Arrows and the space bar belong to a radio button or a button that has the focus.
      const isTaken = event.target.matches("input, button, a");
      if (!(event.key in keys) || isShortcut || isTaken) return;
      event.preventDefault();
      actions[keys[event.key]]();
    });
    // A click leaves the keys to the robot.
    element("controls").addEventListener("pointerup", () => setTimeout(() => document.activeElement.blur()));
  }

  #togglePause() {
    this.isPaused = !this.isPaused;
    this.notice = "";
    this.say("");
    this.#showPause();
  }

  #showPause() {
    element("pause").textContent = this.isPaused ? "Play" : "Pause";
  }
}
