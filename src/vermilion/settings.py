"""Settings of the whole house: from VERMILION_* in the environment, read once.

VERMILION_HOME=/data/vermilion vermilion make "..."
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from vermilion.errors import InputError


class Settings(BaseSettings):
    """Where things live, which models are used when none is named, and the limits.

    Raises:
        InputError: from `get_settings`, when a variable has a value that cannot be used.
    """

    model_config = SettingsConfigDict(env_prefix="VERMILION_", frozen=True)

    home: Path = Field(
        default_factory=lambda: user_data_path("vermilion"),
        description="Folder that holds models and the library.",
    )
    text_model: str = Field(
        default="smollm2-135m", description="Model that writes when none is named."
    )
    speech_model: str = Field(
        default="hibari-heart", description="Voice that speaks when none is named."
    )
    picture_model: str = Field(
        default="stickers", description="Model that paints when none is named."
    )
    text_encoder: str = Field(
        default="all-minilm-l6-v2",
        description="Model that turns texts into vectors when none is named.",
    )
    picture_encoder: str = Field(
        default="",
        description="Model that turns pictures into vectors and knows words; empty: search or"
        " clip-vit-b-32, the first that is there.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where models run: auto, cpu, cuda or cuda:N.",
    )
    dtype: str = Field(
        default="auto",
        pattern=r"^(auto|float32|bfloat16|int8)$",
        description="Numbers that language models run in; auto: int8 on a CPU where the model's"
        " card says that it costs no quality, else float32; bfloat16 on a GPU.",
    )
    cache_memory: int = Field(
        default=0,
        ge=0,
        description="Bytes for what language models have read of the texts that are written; 0: a"
        " quarter of the memory that is free. Texts wait where it is full.",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads for torch; 0: one a core."
    )
    max_batch: int = Field(
        default=64, ge=1, le=1024, description="Most sequences decoded side by side."
    )
    producer: str = Field(
        default="Vermilion",
        pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,200}$",
        description="Who makes the content, in the machine label: a name or a code of letters,"
        " digits and signs without spaces.",
    )
    safety: str = Field(
        default="flag",
        pattern=r"^(flag|refuse)$",
        description="What is done with a prompt, a result or a picture from outside that breaks a"
        " safety rule: flag keeps and marks it, refuse makes nothing of it.",
    )
    safety_rules: Path | None = Field(
        default=None, description="TOML file with safety rules of one's own."
    )
    artists: Path | None = Field(
        default=None,
        description="Text file with a name a line: prompts that name one get a note.",
    )
    max_file_bytes: int = Field(
        default=2_000_000_000, ge=1, description="Largest file that is read, in bytes."
    )
    max_brief_bytes: int = Field(
        default=65_536, ge=1, description="Largest brief that is read, in bytes."
    )
    max_recipe_bytes: int = Field(
        default=262_144, ge=1, description="Largest recipe that is read, in bytes."
    )

    @property
    def models_dir(self) -> Path:
        """Where pulled models lie, a folder each."""
        return self.home / "models"

    @property
    def seal_dir(self) -> Path:
        """Where the authority, the watermarks' key and the ledger live."""
        return self.home / "seal"

    @property
    def library_dir(self) -> Path:
        """Where the library's database and files lie."""
        return self.home / "library"


@cache
def get_settings() -> Settings:
    """The settings of this process. Tests clear it with `get_settings.cache_clear()`."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "VERMILION_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InputError(f"{name}: {first['msg']} (found {first['input']!r})") from None
