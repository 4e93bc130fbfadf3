"""Lines of a key file, and what becomes of the keys when the file changes."""

from __future__ import annotations

import logging
import os
from hashlib import sha256
from pathlib import Path

import pytest

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.http.key_file import KeyFile, check_key_file, parse_digests

KEY = "a-key-of-the-tests"
DIGEST = sha256(KEY.encode()).hexdigest()
OTHER = "another-key-of-the-tests"


def allows(keys: KeyFile, key: str) -> bool:
    return keys.allows({b"x-api-key": key.encode()})


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"  {KEY}\t",
        f"\ufeff{KEY}\r\n",
        f"# comment\n   # indented comment\n\t#\n\n{KEY}\n",
        f"sha256:{DIGEST}",
        f"SHA256:{DIGEST.upper()}\r\n",
        f"\ufeffSha256:{DIGEST}",
        f"sha256:{DIGEST}  -\n",
        f"sha256:{DIGEST} *-\n",
        f"{DIGEST}  -\n",
    ],
)
def test_a_line_allows_its_key_and_no_other(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8", newline="")
    check_key_file(path)
    keys = KeyFile(path)
    assert allows(keys, KEY)
    for line in (DIGEST, f"sha256:{DIGEST}", f"{DIGEST}  -", "# comment", text.strip(), "", "#"):
        assert allows(keys, line) is (line == KEY)


@pytest.mark.parametrize(
    "line",
    [
        "sha256:abc",
        f"sha256:{DIGEST[:63]}",
        f"sha256:{DIGEST}0",
        f"sha256: {DIGEST}",
        f"sha256={DIGEST}",
        f"sha256-{DIGEST}",
        f"sha256:{DIGEST[:63]}g",
        f"sha256:{DIGEST} keys",
        f"sha256:{DIGEST}-",
        f"sha512:{DIGEST}{DIGEST}",
        f"SHA-256:{DIGEST}",
        f"SHA2-256(stdin)= {DIGEST}",
        f"md5:{DIGEST[:32]}",
        f"hash:{DIGEST}",
        "$2b$12$" + "a" * 53,
        DIGEST[:63],
        f"{DIGEST}0",
        f"{DIGEST}  keys",
        f"sha256:{DIGEST[:-1]}\u0661",
        f"{KEY} # comment",
        f"{KEY} {OTHER}",
        f"{KEY}\x00",
        f"{KEY}\x0b{OTHER}",
        f"{KEY}\r{OTHER}",
        f"{KEY}\u00a0{OTHER}",
        f"{KEY}\u200b",
        f"{KEY}\u2028{OTHER}",
        f"\ufeff{KEY}",
        "schlüssel-der-tests",
        "short",
        "x" * 15,
    ],
)
def test_a_malformed_line_is_refused_by_its_number_and_never_quoted(line: str) -> None:
    content = f"{OTHER}\n# comment\n{line}\n".encode()
    with pytest.raises(ServeError, match="keys, line 3: ") as caught:
        parse_digests(content, Path("keys"))
    assert line not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["x" * 16, "0123456789abcdef" * 3, DIGEST, "sharky-robot-number-1", "a:b=c/d+e$f{g}~!?"]
)
def test_a_key_may_have_any_printable_characters(key: str) -> None:
    assert parse_digests(key.encode(), Path("keys")) == (sha256(key.encode()).digest(),)


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfea\x00", b"x" * 2**21])
def test_a_file_without_a_usable_key_is_refused_at_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ServeError, match=r"the key file .*keys"):
        check_key_file(path)


def test_a_missing_file_or_a_pipe_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="cannot read the key file"):
        check_key_file(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ServeError, match="not a regular file"):
        check_key_file(tmp_path / "pipe")


def test_an_invalid_file_keeps_the_keys_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(KEY)
    keys = KeyFile(path)
    path.write_text(f"{OTHER}\nsha256:cut\n")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            keys.refresh()
    assert [record.getMessage() for record in caplog.records] == [
        f"keeping the previous keys: {path}, line 2: looks like a digest, expected sha256: and 64 "
        "hex digits"
    ]
    assert allows(keys, KEY)
    assert not allows(keys, OTHER)
    path.write_text(OTHER)
    keys.refresh()
    assert allows(keys, OTHER)
    assert not allows(keys, KEY)


def test_a_file_without_keys_and_a_deleted_file_revoke_all_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for text in ("", "# nothing\n", None):
        path.write_text(KEY)
        keys = KeyFile(path)
        assert allows(keys, KEY)
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        keys.refresh()
        for key in (KEY, "", "# nothing"):
            assert not allows(keys, key)
        path.write_text(KEY)
        keys.refresh()
        assert allows(keys, KEY)


def test_a_change_of_equal_size_and_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEY)
    keys = KeyFile(path)
    stat = path.stat()
    path.write_text(KEY[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    keys.refresh()
    assert allows(keys, KEY[::-1])
    assert not allows(keys, KEY)
