// Dragging the robot with the mouse or a finger; elsewhere a drag turns the camera.

export function dragRobot(view, getPlayer) {
  const { canvas, orbit } = view;
  let grip; // the point of the world at which the robot was taken

  canvas.addEventListener(
    "pointerdown",
    (event) => {
      const player = getPlayer();
      const hit = player && event.isPrimary && view.pick(event);
      if (!hit) return;
      grip = hit.point;
      orbit.enabled = false;
      canvas.setPointerCapture(event.pointerId);
      player.push.hold(hit.body, toLocal(player.environment.data, hit.body, hit.point.toArray()));
    },
    { capture: true }, // before the camera's own listener
  );
  canvas.addEventListener("pointermove", (event) => {
    if (grip) getPlayer().push.pullTo(view.placeAt(event, grip).toArray());
    else canvas.classList.toggle("over-robot", event.buttons === 0 && Boolean(view.pick(event)));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (!grip) return;
      grip = undefined;
      orbit.enabled = true;
      getPlayer().push.let();
    });
  }
}

// A point of the world in the frame of a body.
function toLocal(data, body, point) {
  const way = point.map((value, i) => value - data.xpos[3 * body + i]);
  const column = (j) => [0, 1, 2].reduce((sum, i) => sum + data.xmat[9 * body + 3 * i + j] * way[i], 0);
  return [0, 1, 2].map(column);
}
