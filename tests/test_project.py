"""The project is found from anywhere, and a file there is whole or as it was."""

import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import refused

import mnistviz as mv
from mnistviz import project

OLD, NEW = b"old" * 1000, b"new" * 100_000


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "file").write_bytes(OLD)
    return tmp_path / "file"


def untouched(target: Path) -> bool:
    return target.read_bytes() == OLD and [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("name", ["file", "a/b/file"])
def test_a_written_file_is_whole_and_alone_and_folders_on_the_way_are_made(name, tmp_path):
    for content in (OLD, NEW):
        project.write_bytes(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == content
    assert list((tmp_path / name).parent.iterdir()) == [tmp_path / name]


def test_the_target_appears_only_at_the_end(target):
    with project.atomic(target) as part:
        part.write_bytes(NEW)
        assert target.read_bytes() == OLD
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, mv.MnistvizError])
def test_an_interrupted_write_changes_nothing(target, error):
    def write() -> None:
        with project.atomic(target) as part:
            part.write_bytes(NEW)
            raise error("stop")

    with pytest.raises(error, match=r"^stop$"):
        write()
    assert untouched(target)


def test_a_body_that_writes_nothing_is_an_error(target):
    with pytest.raises(mv.MnistvizError, match="cannot write file"), project.atomic(target):
        pass
    assert untouched(target)


@pytest.mark.parametrize(("where", "call"), [(Path, "write_bytes"), (os, "fsync"), (os, "replace")])
def test_a_full_disk_changes_nothing(target, monkeypatch, where, call):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(where, call, full)
    refused(lambda: project.write_bytes(target, NEW), "cannot write file: No space left on device")
    assert untouched(target)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that nobody may write to; root steps down to nobody, whom permissions bind."""
    if not hasattr(os, "seteuid"):
        pytest.skip("needs a system with users")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "file").write_bytes(OLD)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_a_read_only_folder_is_a_clear_error(read_only):
    refused(lambda: project.write_bytes(read_only / "file", NEW), "write file: Permission denied", str(read_only))
    refused(lambda: project.write_bytes(read_only / "below" / "file", NEW), "cannot write file")
    assert untouched(read_only / "file")


def test_a_folder_below_a_file_and_one_in_its_place_are_clear_errors(target):
    refused(lambda: project.write_bytes(target / "inside", NEW), "cannot write inside")
    assert untouched(target)
    target.unlink()
    target.mkdir()
    refused(lambda: project.write_bytes(target, NEW), "cannot write file")
    assert list(target.parent.iterdir()) == [target]


def test_readers_see_one_whole_content_or_the_other(target):
    contents = [bytes([value]) * 300_000 for value in (1, 2)]
    project.write_bytes(target, contents[0])
    errors: list[Exception] = []

    def rewrite(content: bytes) -> None:
        try:
            for _ in range(40):
                project.write_bytes(target, content)
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=rewrite, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        found = target.read_bytes()
        assert found in contents
        seen.add(found[0])
    for writer in writers:
        writer.join()
    assert not errors
    assert seen == {1, 2}
    assert list(target.parent.iterdir()) == [target]


def test_the_variable_names_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTVIZ_ROOT", str(tmp_path / "here"))
    assert project.root() == tmp_path / "here"
    assert project.data_folder() == tmp_path / "here" / "digit-recognizer"
    assert project.models_folder() == tmp_path / "here" / "models"


def test_the_root_is_found_from_a_folder_inside(tmp_path, monkeypatch):
    """Also where a file is called like the folder that marks it."""
    monkeypatch.delenv("MNISTVIZ_ROOT", raising=False)
    (tmp_path / "digit-recognizer").mkdir()
    inside = tmp_path / "notebooks" / "deeper"
    inside.mkdir(parents=True)
    (inside / "digit-recognizer").write_text("not a folder")
    monkeypatch.chdir(inside)
    assert project.root() == project.root(tmp_path) == tmp_path


def test_from_elsewhere_the_root_is_the_library_s_own(tmp_path, monkeypatch):
    monkeypatch.delenv("MNISTVIZ_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    library = tmp_path / "checkout" / "mnistviz"
    monkeypatch.setattr(project, "__file__", str(library / "project.py"))
    assert project.root() == tmp_path  # no project anywhere: the working directory
    (tmp_path / "checkout" / "digit-recognizer").mkdir(parents=True)
    assert project.root() == tmp_path / "checkout"


def test_paths_are_shown_from_the_root_or_whole(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    assert project.shown(project_root / "models" / "_quick" / "deep") == "models/_quick/deep"
    assert project.shown("models") == "models"
    assert project.shown(project_root.parent / "else") == (project_root.parent / "else").as_posix()
