// Dragging the robot with the mouse or a finger; elsewhere a drag turns the camera.

export class RobotDrag {
  constructor(view, getPlayer) {
    this.view = view;
    this.getPlayer = getPlayer;
    this.event = undefined; // the pointer's last one while it holds the robot
    const { canvas } = view;
    // "capture": before the camera's own listener
    canvas.addEventListener("pointerdown", (event) => this.#take(event), { capture: true });
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#drop());
  }

  // Call it once a frame: the camera moves along with the robot, and so does the pointer.
  update() {
    if (!this.event) return;
    const { push } = this.getPlayer();
    if (push.held) push.pullTo(this.view.placeAt(this.event, push.point));
    else this.#drop(); // the robot started again
  }

  #take(event) {
    const player = this.getPlayer();
    const hit = player && event.isPrimary && this.view.pick(event);
    if (!hit) return;
    this.event = event;
    this.view.orbit.enabled = false;
    this.view.canvas.setPointerCapture(event.pointerId);
    player.push.hold(player.environment.data, hit.body, hit.point);
  }

  #move(event) {
    if (this.event) this.event = event;
    else if (event.pointerType === "mouse" && event.buttons === 0 && this.getPlayer()) {
      this.view.canvas.classList.toggle("over-robot", this.view.pick(event) !== undefined);
    }
  }

  #drop() {
    if (!this.event) return;
    this.event = undefined;
    this.view.orbit.enabled = true;
    this.getPlayer().push.letGo();
  }
}
