"""A program that dies, waits or races in the middle of its work. The tests start it.

python crash.py die-at NAME DIRECTORY     dies when a named step of keeping is reached
python crash.py die-everywhere TASK DIRECTORY OUT
                                          does a task in copies of a library, OUT/0, OUT/1,
                                          ..., and dies one line of code later in each
python crash.py wait-at NAME DIRECTORY    stops at a step until it is told to go on
python crash.py keep-many WORD DIRECTORY  keeps fifty assets
python crash.py open-together ROUNDS OUT  six processes open one new library at once
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from helpers import keep

from vermilion.library import Library, assets, blobs
from vermilion.library.blobs import Blobs

_WATCHED = {assets.__file__, blobs.__file__}


def _at(name: str, action: Callable[[], None]) -> None:
    """Do something when a step is reached: the step itself, and all around it, is real."""
    fsync, place = os.fsync, Blobs.place

    def fsync_after(descriptor: int) -> None:
        action()
        fsync(descriptor)

    def place_before(self: Blobs, blob: str, content: bytes) -> Path:
        marker = place(self, blob, content)
        action()
        return marker

    if name == "file is being written":
        os.fsync = fsync_after
    elif name == "file is in its place, its row is not":
        Blobs.place = place_before  # type: ignore[method-assign]
    else:
        raise ValueError(name)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wait() -> None:
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    sys.stdin.readline()


def _die_at_line(number: int) -> Callable[[], None]:
    """Dies at a line of the watched files, counted from where the first file is touched."""
    lines = itertools.count()
    armed = False

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal armed
        if frame.f_code.co_filename not in _WATCHED:
            return None
        armed = armed or frame.f_code in (Blobs.place.__code__, Blobs.mark.__code__)
        if armed and event == "line" and next(lines) == number:
            _die()
        return trace

    return lambda: sys.settrace(trace)


def _do(task: str, library: Library) -> None:
    if task == "keep":
        keep(library, "second")
    elif task == "keep the same":
        keep(library, "first")
    elif task == "remove":
        library.remove(library.list()[-1].id)
    else:
        raise ValueError(task)


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        # Not sys.exit: the rest of this program is the parent's.
        if status:
            traceback.print_exc()
        os._exit(status)


def die_everywhere(task: str, template: Path, out: Path) -> None:
    for number in itertools.count():
        directory = out / str(number)
        shutil.copytree(template, directory)

        def work(directory: Path = directory, number: int = number) -> None:
            library = Library.open(directory)
            _die_at_line(number)()
            _do(task, library)
            sys.settrace(None)

        _, status = os.waitpid(_fork(work), 0)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))


def open_together(rounds: int, out: Path) -> None:
    # Imported before the forks, so that those who race all start at the same line.
    import alembic.command
    import alembic.config  # noqa: F401

    for number in range(rounds):
        directory = out / str(number)
        gate, opener = os.pipe()

        def work(directory: Path = directory, gate: int = gate) -> None:
            os.read(gate, 1)
            with Library.open(directory) as library:
                keep(library, "one of six")

        children = [_fork(work) for _ in range(6)]
        os.write(opener, b"." * len(children))
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if any(statuses):
            sys.exit(f"round {number}: {statuses}")


def main(mode: str, word: str, *folders: str) -> None:
    paths = [Path(folder) for folder in folders]
    if mode == "die-everywhere":
        die_everywhere(word, *paths)
    elif mode == "open-together":
        open_together(int(word), *paths)
    elif mode == "keep-many":
        with Library.open(paths[0]) as library:
            for number in range(50):
                keep(library, f"{word} {number}", f"content {number}".encode())
    else:
        with Library.open(paths[0]) as library:
            _at(word, {"die-at": _die, "wait-at": _wait}[mode])
            keep(library, "second")


if __name__ == "__main__":
    main(*sys.argv[1:])
