"""Opens models: looks at the memory first, keeps what is open."""

from __future__ import annotations

from collections.abc import Callable

import psutil

from vermilion import hooks
from vermilion.errors import ModelError
from vermilion.runtime.cards import Card
from vermilion.runtime.engines import Engine, GreenTokens, Watermarked
from vermilion.runtime.store import Store
from vermilion.settings import Settings


class Loader:
    """Gives opened models by name; each is opened once.

    Args:
        store: where the models are.
        settings: device, threads and batch size.
        greens: makes the green tokens of a text watermark, of a vocabulary's size; None: texts
            that ask for one cannot be written.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        greens: Callable[[int], GreenTokens] | None = None,
    ) -> None:
        self.store, self.settings, self._greens = store, settings, greens
        self._open: dict[str, tuple[Card, Engine]] = {}

    def __contains__(self, name: str) -> bool:
        """Whether a model is open already."""
        return name in self._open

    def open(self, name: str) -> tuple[Card, Engine]:
        """Open a model, or give the one that is open already.

        Args:
            name: of a pulled model, or the path of a folder or GGUF file.

        Raises:
            NotFoundError: there is no such model, or it is not pulled yet.
            ModelError: its files are broken, or it does not fit into memory.
        """
        if name not in self._open:
            card, path = self.store.locate(name)
            engine: type[Engine] = hooks.resolve(hooks.ENGINES, card.family)
            _check_memory(name, engine.memory(card, path))
            opened = engine.open(card, path, self.settings)
            if self._greens is not None and isinstance(opened, Watermarked):
                opened.use_watermark(self._greens)
            self._open[name] = card, opened
        return self._open[name]


def _check_memory(name: str, needed: int) -> None:
    free = psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f"{name} needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free;"
            " close other programs or name a smaller model"
        )
