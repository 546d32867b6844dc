"""Pull a model in a process of its own: pulling.py MODELS_DIR SOURCE [WHERE_TO_DIE].

Prints one JSON object: the card's facts, or the error's class and message. With a third argument
the process is killed as soon as the progress says that word.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from vermilion.errors import VermilionError
from vermilion.runtime.store import Store


def main(models_dir: str, source: str, where_to_die: str = "-") -> None:
    steps: list[tuple[str, int, int | None]] = []

    def progress(what: str, done: int, total: int | None) -> None:
        steps.append((what, done, total))
        if what.endswith(where_to_die):
            os.kill(os.getpid(), signal.SIGKILL)

    store = Store(Path(models_dir))
    try:
        plan = store.plan(source)
        card = store.pull(source, progress=progress)
    except VermilionError as error:
        json.dump({"error": type(error).__name__, "message": str(error)}, sys.stdout)
        return
    facts = {
        "name": card.name,
        "folder": str(card.folder),
        "files": {name: file.sha256 for name, file in card.files.items()},
        "licence": card.licence,
        "languages": card.languages,
        "revision": card.revision,
        "path": str(store.locate(card.name)[1]),
        "plan": plan.download_bytes,
        "steps": steps,
    }
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
