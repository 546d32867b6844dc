"""Models that the tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, where it was pulled."""
    from vermilion.errors import NotFoundError
    from vermilion.runtime.store import Store
    from vermilion.settings import get_settings

    try:
        _, path = Store(get_settings().models_dir).locate("smollm2-135m")
    except NotFoundError:
        pytest.skip("smollm2-135m is not pulled: vermilion models pull smollm2-135m")
    return path
