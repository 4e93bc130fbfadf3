"""The live page: its physics beside Gymnasium's, in Node, and the whole page in Chromium."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import gymnasium
import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.export.targets.web.folders import tool
from tests.serve.browser import WEBGL, Page, browser_page
from tests.serve.server import wait_until
from trpo_deploy.runtime import OnnxPolicy

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MUJOCO = ROOT / "build" / "live" / "node_modules" / "@mujoco" / "mujoco" / "mujoco.js"
MODELS = ("Walker2d-v5", "Hopper-v5", "HalfCheetah-v5", "Ant-v5", "Swimmer-v5")
STEPS = 30
WAIT_S = 240  # drawn by the CPU, the simulation takes many times as long as it lasts
# Each visit starts from the same pose, and each frame lasts 100 ms, whatever this machine needs.
PREPARED = """
let seed = 1;
Math.random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
globalThis.ticks = 0;
const request = globalThis.requestAnimationFrame;
globalThis.requestAnimationFrame = (draw) => request(() => draw(100 * ++ticks));
"""
PLAYER = """
import(document.querySelector("script[type=module]").src).then(async (module) => {
  const page = await module.page;
  const { player, view, controls } = page;
  %s
})
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, as ``make page`` builds it."""
    for name in ("npm", "node", "chromium"):
        tool(name)
    output = tmp_path_factory.mktemp("live") / "page"
    command = [sys.executable, str(ROOT / "scripts" / "build-page"), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    """The page below a path of a static server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(built.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{built.name}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with browser_page(*WEBGL) as page:
        page.observe("Log", "Network", "Page", "Runtime")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=PREPARED)
        yield page


@pytest.fixture
def visit(browser: Page, address: str) -> Iterator[Page]:
    """The page, just opened. After the test: no errors, and no request to another host."""
    browser.events.clear()
    resize(browser, 480, 600, 0.5)  # few pixels, since the CPU draws them
    show(browser, address)
    yield browser
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.evaluate("0")  # receive what was told before
    assert [event for event in browser.events if is_complaint(event)] == []
    sent = [e["params"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    urls = {each["request"]["url"] for each in sent}
    assert {url for url in urls if not url.startswith((address, "data:"))} == set()


def is_complaint(event: dict[str, Any]) -> bool:
    """Whether an event is an exception, or an error or a warning of the page."""
    method, params = event["method"], event["params"]
    if method == "Runtime.consoleAPICalled":
        return params["type"] in ("error", "warning")
    if method == "Log.entryAdded":
        return bool(params["entry"]["level"] == "error")
    return bool(method == "Runtime.exceptionThrown")


def resize(page: Page, width: int, height: int, scale: float = 1) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
    page.call("Emulation.setDeviceMetricsOverride", **size)


def show(page: Page, address: str) -> None:
    """Open the page and wait until its robot is there."""
    page.open(address)
    assert wait_until(lambda: bool(page.evaluate("document.readyState === 'complete'")), WAIT_S)
    assert wait_until(lambda: bool(ask(page, "return player !== undefined;")), WAIT_S)


def ask(page: Page, code: str) -> Any:
    """The result of code with the page's ``player``, ``view`` and ``controls``."""
    return page.evaluate(PLAYER % code)


def click(page: Page, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def play_until(page: Page, seconds: float) -> None:
    """Wait for seconds of the simulation."""
    assert wait_until(lambda: bool(ask(page, f"return player.time >= {seconds};")), WAIT_S)


def pause(page: Page) -> None:
    ask(page, "controls.isPaused = true;")


def simulate(page: Page, seconds: float) -> list[float]:
    """Simulate without drawing, up to a time of the simulation; return positions and velocities."""
    code = f"""
    while (player.time < {seconds}) player.advance();
    const {{ qpos, qvel }} = player.environment.data;
    return [...qpos, ...qvel];
    """
    return [float(number) for number in ask(page, code)]


@dataclass(frozen=True)
class Played:
    """What Gymnasium's environment did: a row for each observation."""

    qpos: list[float]
    qvel: list[float]
    actions: list[list[float]]
    rows: list[tuple[NDArray[np.float64], float, bool]]
    """Observation, the reward before it, and whether the robot had fallen."""


def play(model: str, act: Callable[[Any], NDArray[Any]]) -> Played:
    with gymnasium.make(model) as wrapped:
        env: Any = wrapped.unwrapped
        observation, _ = env.reset(seed=1)
        played = Played(env.data.qpos.tolist(), env.data.qvel.tolist(), [], [])
        played.rows.append((observation, 0.0, False))
        for _ in range(STEPS):
            action = act(observation)
            observation, reward, has_fallen, *_ = env.step(action)
            played.actions.append(action.tolist())
            played.rows.append((observation, reward, has_fallen))
    return played


@pytest.mark.parametrize("model", MODELS)
def test_steps_are_those_of_gymnasium(built: Path, model: str) -> None:
    """Observation, reward, health and action over 30 steps, of the policy and at random.

    The versions of MuJoCo (3.9 in the page, 3.8 here) and the compilers differ, so the last digits
    do, and contacts multiply the difference: HalfCheetah's was 4e-8 after 30 steps and 4e-7 after
    40, the other robots' 1e-11. Hence 30 steps and 1e-6.
    """
    policy = OnnxPolicy(ROOT / "models" / model / "policy.onnx")
    shape = policy.spec.action_space.shape
    rng = np.random.default_rng(1)
    runs = [
        play(model, lambda observation: policy.predict(observation)[0]),
        play(model, lambda _: rng.uniform(-1, 1, shape)),
    ]
    for rows, run in zip(run_steps(built / "models" / model, runs), runs, strict=True):
        for row, (observation, reward, has_fallen) in zip(rows, run.rows, strict=True):
            np.testing.assert_allclose(row["observation"], observation, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(row["reward"], reward, rtol=1e-5, atol=1e-5)
            assert row["isHealthy"] is not has_fallen
            # 5e-6 of the range is allowed for the policy itself
            np.testing.assert_allclose(row["action"], policy.predict(observation)[0], atol=2e-5)
    if model == "Ant-v5":
        assert np.any([row[0][27:] for row in runs[0].rows]), "no contact was seen"
    if model == "Hopper-v5":
        assert runs[1].rows[-1][2], "no fall was seen"


def run_steps(folder: Path, runs: list[Played]) -> list[list[dict[str, Any]]]:
    """What the page's environment and policy do from the same states, with the same actions."""
    plans = [{"qpos": run.qpos, "qvel": run.qvel, "actions": run.actions} for run in runs]
    modules = [MUJOCO.as_uri(), (ROOT / "docs" / "live" / "environment.js").as_uri()]
    command = [tool("node"), str(Path(__file__).with_name("steps.mjs")), *modules, folder.as_uri()]
    done = subprocess.run(
        command, input=json.dumps(plans), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    played: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return played


def test_the_folder_has_the_licences_of_what_it_contains(built: Path) -> None:
    text = (built / "licenses.txt").read_text()
    for title in ("trpo-deploy", "three.js", "MuJoCo: LICENSE", "Gymnasium, the robots' XML files"):
        assert title in text
    assert "Apache License" in text
    assert text.count("Permission is hereby granted") >= 3


def test_the_walker_is_upright_after_ten_seconds(visit: Page, tmp_path: Path) -> None:
    click(visit, "input[name=speed][value='2']")
    play_until(visit, 10)  # a fall would set the time to zero
    pause(visit)
    height, angle = ask(visit, "return [...player.environment.data.qpos.slice(1, 3)];")
    assert height > 0.8  # Gymnasium's own limits
    assert abs(angle) < 1
    assert ask(visit, "return player.environment.data.qpos[0];") > 20  # metres
    resize(visit, 800, 600)
    drawn = visit.evaluate("ticks")
    assert wait_until(lambda: visit.evaluate("ticks") > drawn + 2, WAIT_S)
    visit.screenshot(tmp_path / "walker.png")
    torso = torso_pixels(matplotlib.image.imread(tmp_path / "walker.png"))
    rows, columns = np.nonzero(torso)
    assert len(rows) > 500
    assert np.ptp(rows) > 1.5 * np.ptp(columns)


def torso_pixels(picture: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the torso's blue is, between the panels above and below."""
    red, green, blue = np.moveaxis(picture[..., :3], -1, 0)
    is_blue: NDArray[np.bool_] = (blue > 2 * red) & (blue > 1.4 * green)
    is_blue[: len(picture) // 4] = False
    is_blue[int(len(picture) * 0.72) :] = False
    return is_blue


def test_the_return_is_counted_by_the_step(visit: Page) -> None:
    play_until(visit, 1)
    pause(visit)
    steps, value = ask(visit, "controls.show(player); return [player.steps, player.return];")
    text = visit.evaluate("document.getElementById('figures').innerText").replace("\n", " ")
    assert f"{round(value):,}" in text
    assert f"{steps} of 1000" in text
    assert steps == ask(visit, "return Math.floor(player.time / 0.008 + 1e-6);")
    assert 300 < value < 800
    assert 0.1 < ask(visit, "return player.actionTime;") < 10_000


def test_a_push_moves_the_robot(visit: Page) -> None:
    pause(visit)

    def played(trigger: str) -> list[float]:
        ask(visit, "seed = 7; player.restart();")
        simulate(visit, 1)
        visit.evaluate(trigger)
        return simulate(visit, 1.3)

    button = "document.querySelector('#push-forward').click()"
    event = "new KeyboardEvent('keydown', { key: 'ArrowLeft', bubbles: true })"
    key = f"document.body.dispatchEvent({event})"
    calm, forward, back = played("0"), played(button), played(key)
    assert calm == played("0")
    x = 0
    assert back[x] + 0.01 < calm[x] < forward[x] - 0.01


def test_the_mouse_pulls_the_robot(visit: Page) -> None:
    play_until(visit, 0.5)
    pause(visit)
    place = ask(
        visit,
        """
        const { x, y } = view.robot.children[0].position.clone().project(view.camera);
        return [(x + 1) / 2 * innerWidth, (1 - y) / 2 * innerHeight];
        """,
    )
    mouse(visit, "mousePressed", *place)
    mouse(visit, "mouseMoved", place[0] - 120, place[1])
    force = "page.drag.update(); player.advance(); return player.push.force ?? null;"
    x, _, z = ask(visit, force)
    assert x < -50  # newtons
    assert abs(z) < abs(x) / 2
    mouse(visit, "mouseReleased", place[0] - 120, place[1])
    assert ask(visit, force) is None


def mouse(page: Page, kind: str, x: float, y: float) -> None:
    where = {"x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type=kind, **where)


def test_each_robot_plays_and_can_be_linked_to(visit: Page, address: str) -> None:
    asked = {event["params"].get("request", {}).get("url") for event in visit.events}
    assert f"{address}mujoco.wasm" in asked
    listed = "[...document.querySelectorAll('input[name=model]')].map((input) => input.value)"
    assert visit.evaluate(listed) == list(MODELS)
    for model in reversed(MODELS):
        click(visit, f"input[value={model}]")
        chosen = f"return player.environment.task.id === {json.dumps(model)};"
        assert wait_until(lambda chosen=chosen: bool(ask(visit, chosen)), WAIT_S)  # type: ignore[misc]
        play_until(visit, 0.5)
        assert ask(visit, "return player.policy.selfTest();") < 5e-6
        assert visit.evaluate("location.hash") == f"#{model}"
    show(visit, f"{address}?#Ant-v5")
    assert ask(visit, "return player.environment.task.id;") == "Ant-v5"
    visit.evaluate("location.hash = '#Hopper-v5'")
    chosen = "return player.environment.task.id === 'Hopper-v5';"
    assert wait_until(lambda: bool(ask(visit, chosen)), WAIT_S)


def test_the_speed_is_the_chosen_one(visit: Page) -> None:
    for speed in (0.1, 0.5, 1, 2):
        click(visit, f"input[name=speed][value='{speed}']")
        passed, expected = ask(
            visit,
            f"""
            const [time, tick] = [player.time, ticks];
            while (ticks < tick + 8) await new Promise((done) => setTimeout(done));
            return [player.time - time, (ticks - tick) * 0.1 * {speed}];
            """,
        )
        # A frame more or less, as they are counted before they are drawn, and a timestep.
        assert passed == pytest.approx(expected, abs=0.1 * speed + 0.003)


def test_who_asks_for_less_motion_starts_the_robot(visit: Page, address: str) -> None:
    wish = {"name": "prefers-reduced-motion", "value": "reduce"}
    visit.call("Emulation.setEmulatedMedia", features=[wish])
    show(visit, address)
    first = visit.evaluate("ticks")
    assert wait_until(lambda: visit.evaluate("ticks") > first + 5, WAIT_S)
    assert ask(visit, "return player.time;") == 0
    assert "Press Play" in visit.evaluate("document.getElementById('status').textContent")
    click(visit, "#pause")
    play_until(visit, 0.2)


def test_the_page_fits_a_screen(visit: Page) -> None:
    for width, height in ((320, 640), (360, 640), (700, 360), (1200, 700)):
        resize(visit, width, height)
        assert_fits(visit, width, height)


def assert_fits(page: Page, width: int, height: int) -> None:
    """Nothing is cut off, nothing lies over something else, and the robot is seen."""

    def boxes(selector: str) -> list[list[float]]:
        sides = "({ left, top, right, bottom }) => [left, top, right, bottom]"
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        boxes = f"{found}.map((each) => each.getBoundingClientRect()).map({sides})"
        return [[float(side) for side in box] for box in page.evaluate(boxes)]

    for left, top, right, bottom in boxes("h1, nav a, #figures div, #controls span, button"):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
    [stage], [controls] = boxes("#stage"), boxes("#controls")
    assert stage[3] - stage[1] >= 150  # the robot is seen
    assert stage[3] <= controls[1]
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    [header], [figures] = boxes("header"), boxes("#figures")
    assert max(header[3], figures[3]) <= stage[1]
    assert header[3] <= figures[1] or header[2] <= figures[0]


def test_cartpole_is_one_link_away(visit: Page, address: str) -> None:
    link = visit.evaluate("document.querySelector('nav a:not([aria-current])').href")
    assert link == f"{address}cartpole/"
    visit.open(link)
    steps = "Number(document.querySelector('#policy .steps')?.textContent ?? 0)"
    assert wait_until(lambda: visit.evaluate(steps) > 20, WAIT_S)
    assert visit.evaluate("document.querySelector('nav a').href") == address


def test_the_documentation_is_one_link_away(visit: Page) -> None:
    """Its address is that of pyproject.toml, since the page may lie at any other."""
    links = "[...document.querySelectorAll('nav a')].map((link) => [link.innerText, link.href])"
    urls = dict(each.split(", ") for each in metadata("trpo-deploy").get_all("Project-URL") or ())
    assert ["Documentation", urls["Documentation"]] in visit.evaluate(links)


def test_a_model_that_does_not_load_is_named(visit: Page) -> None:
    ask(visit, "await page.choose('Robot-v9');")
    text = visit.evaluate("document.getElementById('status').textContent")
    assert text.startswith("Robot-v9 did not load: ")
    visit.evaluate("0")
    visit.events.clear()  # of the missing file


def test_a_browser_without_webgl_gets_a_reason(address: str) -> None:
    with browser_page("--disable-3d-apis") as page:
        page.open(address)
        status = "document.getElementById('status')?.textContent ?? ''"
        assert wait_until(lambda: "needs WebGL" in page.evaluate(status), WAIT_S)
