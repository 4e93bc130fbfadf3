"""What runs the pages finds what is wrong in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.addresses import PROJECT
from tests.docs.blocks import Block, blocks_of
from tests.docs.terminal import Terminal, matches


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with closing(Terminal(tmp_path, tmp_path / "trained", {})) as terminal:
        yield terminal


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text)
    return path


def block(kind: str, text: str) -> Block:
    return Block(kind, text, Path("page.md"), 1, True)


def test_blocks_come_in_order_with_their_lines(tmp_path: Path) -> None:
    text = "Text\n\n```sh\na\n```\n\n- list:\n\n  ```python\n  b = 1\n  ```\n"
    found = [(each.kind, each.text, each.line) for each in blocks_of(page(tmp_path, text))]
    assert found == [("sh", "a\n", 3), ("python", "b = 1\n", 9)]


def test_a_block_is_not_run_for_a_reason_only(tmp_path: Path) -> None:
    text = "<!-- not run: needs a robot -->\n```sh\na\n```\n\n```sh\nb\n```\n"
    assert [each.is_run for each in blocks_of(page(tmp_path, text))] == [False, True]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```\na\n```\n", r"page.md:1: expected a kind of block .*, received ''"),
        ("```bash\na\n```\n", "received 'bash'"),
        ("a\n\n    b\n", "page.md:3: an indented block"),
        ("<!-- not run -->\n```sh\na\n```\n", "page.md:1: expected <!-- not run: the reason -->"),
        ("<!-- not run: -->\n```sh\na\n```\n", "page.md:1: expected <!-- not run: the reason -->"),
        ("<!-- not run: a -->\n\ntext\n", "page.md:1: 'not run' has no block"),
        ("<!-- not run: a -->\n```text\na\n```\n", "page.md:1: 'not run' has no block"),
    ],
)
def test_other_blocks_are_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        list(blocks_of(page(tmp_path, text)))


def test_folder_variables_files_and_names_stay(terminal: Terminal) -> None:
    terminal.run(block("sh", "mkdir x\ncd x\nexport NAME='a b'\ntouch file\n"))
    terminal.run(block("console", "$ ls\nfile\n$ echo \\\n    $NAME\na b\n"))
    terminal.run(block("python", "import os\nfound = os.listdir()\n"))
    terminal.run(block("python", "assert found == ['file']\n"))


def test_what_an_earlier_command_prints_later_is_its_own(terminal: Terminal) -> None:
    terminal.run(block("sh", "(while sleep 0.01; do echo late; done) &\n"))
    terminal.run(block("console", "$ sleep 0.3; echo now\nnow\n"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("sh", "false\ntrue\n"),
        ("sh", "false | true\n"),
        ("sh", "pip install 'trpo-deploy[no-such-extra]'\n"),
        ("sh", "python -m pip install no-such-package\n"),
        ("sh", "pip install -c no-such-file.txt numpy\n"),
        ("sh", "make no-such-target\n"),
        ("sh", "trpo-deploy serve no-such-model\n"),
        ("sh", "trpo-deploy serve models\ntrue\n"),
        ("console", "$ echo a\nb\n"),
        ("console", "$ echo a\n"),
        ("python", "assert False\n"),
    ],
)
def test_what_is_wrong_fails(kind: str, text: str, terminal: Terminal) -> None:
    with pytest.raises(AssertionError):
        terminal.run(block(kind, text))


@pytest.mark.parametrize("text", ["pip install -c constraints.txt '.[all]' numpy", "make demo"])
def test_installations_and_targets_are_checked_only(text: str, terminal: Terminal) -> None:
    terminal.run(block("sh", text))


def test_the_training_that_pages_share_is_copied(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "policy.zip").touch()
    train = "trpo-deploy train CartPole-v1   # a comment"
    for command in (train, f".venv/bin/{train}", f". .venv/bin/activate\n{train}"):
        terminal.run(block("sh", f"{command}\nrm runs/CartPole-v1/policy.zip\n"))


def test_a_clone_is_the_same_checkout(terminal: Terminal) -> None:
    terminal.run(block("sh", f"git clone {PROJECT}\ncd trpo-deploy\npython3 -m venv .venv\n"))
    terminal.run(block("sh", "test -d models/Hopper-v5\n"))


def test_a_page_writes_to_a_copy(terminal: Terminal) -> None:
    terminal.run(block("sh", "rm models/Hopper-v5/policy.onnx examples/http_client.py\n"))
    root = Path(__file__).parents[2]
    assert (root / "models" / "Hopper-v5" / "policy.onnx").exists()
    assert (root / "examples" / "http_client.py").exists()


@pytest.mark.slow
def test_a_server_runs_until_the_next_starts_or_the_page_ends(tmp_path: Path) -> None:
    ask = block("sh", "curl -sf 127.0.0.1:3000/models | grep Hopper-v5\n")
    with closing(Terminal(tmp_path, tmp_path / "trained", {})) as terminal:
        for _ in range(2):
            terminal.run(block("sh", "trpo-deploy serve models/Hopper-v5  # a comment\n"))
            terminal.run(ask)
    with pytest.raises(AssertionError):
        terminal.run(ask)


@pytest.mark.parametrize(
    ("expected", "output", "equal"),
    [
        ("a … c", "a b c\n", True),
        ("a … c", "a b\n", False),
        ("…\nc", "a\nb\nc", True),
        ("a\n…", "a\nb\nc\n", True),
        ("a\n…", "a\n", True),
        ("a.c", "abc\n", False),
        ("a", "a\nb\n", False),
        ("", "", True),
    ],
)
def test_an_ellipsis_stands_for_what_varies(expected: str, output: str, equal: bool) -> None:
    assert matches(expected, output) == equal
