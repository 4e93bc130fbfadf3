"""The examples in JavaScript: the page in Chromium, the episode in Node, the physics themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gymnasium
import numpy as np

from tests.command import run_cli
from tests.export.targets.c.folders import run
from tests.export.targets.web.folders import open_page, text_of, tool

EXAMPLES = Path(__file__).parents[1] / "examples"
BROWSER = EXAMPLES / "browser"
PHYSICS = """
require(process.argv[1]);
const { start, forces } = JSON.parse(process.argv[2]);
const cart = new CartPole();
cart.reset(start);
console.log(JSON.stringify(forces.map((force) => [...cart.step(force), cart.hasFallen])));
"""
HOLD_RIGHT = """
document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
"""
HOLD_POLICY = """
setTimeout(() => {
  const canvas = document.querySelector("#policy canvas");
  canvas.setPointerCapture = () => {}; // there is no pointer
  const clientX = canvas.getBoundingClientRect().left + 5;
  canvas.dispatchEvent(new PointerEvent("pointerdown", { clientX }));
}, 500);
"""


def played(folder: Path, script: str, milliseconds: int) -> str:
    """The page of a copy of the example, with one more script, after some time."""
    shutil.copytree(BROWSER, folder / "page")
    (folder / "page" / "visitor.js").write_text(script)
    page = folder / "page" / "index.html"
    page.write_text(page.read_text() + '<script src="visitor.js"></script>')
    return open_page(page.as_uri(), folder / "profile", milliseconds=milliseconds)


def lane(html: str, name: str) -> str:
    return html.split(f'id="{name}"', 1)[1].split("</section>")[0]


def test_the_policy_keeps_the_pole_upright_for_a_whole_episode(tmp_path: Path) -> None:
    html = played(tmp_path, "", 11_000)
    policy, you = lane(html, "policy"), lane(html, "you")
    assert text_of(policy, "steps") == "500"
    assert text_of(policy, "status") == "Upright for all 500 steps."
    assert text_of(you, "steps") == "0"
    assert "to start" in text_of(you, "status")
    assert "self-test: 0." in text_of(html, "facts")


def test_a_visitor_who_only_pushes_to_the_right_falls_within_a_second(tmp_path: Path) -> None:
    you = lane(played(tmp_path, HOLD_RIGHT, 2_000), "you")
    assert 5 <= int(text_of(you, "steps")) <= 15
    assert text_of(you, "status").startswith("Fell after")


def test_a_visitor_can_disturb_the_policy(tmp_path: Path) -> None:
    html = played(tmp_path, HOLD_POLICY, 4_000)
    # Its own pushes to the right only cancel the visitor's, so the cart leaves the track.
    assert int(text_of(lane(html, "policy"), "best").removeprefix("best ")) < 100


def test_the_physics_are_those_of_gymnasium() -> None:
    rng = np.random.default_rng(0)
    start, actions = rng.uniform(-0.05, 0.05, 4), rng.integers(2, size=60)
    forces = (20.0 * actions - 10).tolist()
    arguments = json.dumps({"start": start.tolist(), "forces": forces})
    said = run([tool("node"), "-e", PHYSICS, BROWSER / "physics.js", arguments])
    with gymnasium.make("CartPole-v1", max_episode_steps=1000) as env:
        env.reset()
        env.unwrapped.state = start  # type: ignore[attr-defined]
        for *state, has_fallen in json.loads(said):
            observation, _, terminated, *_ = env.step(int(actions[0]))
            actions = actions[1:]
            # float64 on both sides; Gymnasium rounds the observation to float32
            np.testing.assert_allclose(observation, state, rtol=1e-6, atol=1e-7)
            assert terminated == has_fallen
            if terminated:
                break
        assert terminated


def test_the_episode_in_node() -> None:
    assert run([tool("node"), EXAMPLES / "node" / "episode.mjs"]) == "CartPole-v1: return 500\n"


def test_the_examples_module_is_what_the_exporter_writes(tmp_path: Path) -> None:
    onnx, folder = BROWSER / "policy.onnx", tmp_path / "policy"
    export = ("export", onnx, "--target", "web", "--name", "cartpole", "--no-verify", "-o", folder)
    assert run_cli(*export).code == 0
    for name in ("cartpole.js", "cartpole.global.js", "cartpole.d.ts", "README.md"):
        again = "run scripts/make-browser-policy again"
        assert (folder / name).read_text() == (BROWSER / "policy" / name).read_text(), again
    tool("node")
    done = run_cli("verify", onnx, BROWSER / "policy")
    assert done.code == 0, done.output
