"""The craft of speech: text to a sound file at an even loudness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from vermilion.errors import InputError
from vermilion.line import sound
from vermilion.line.checks import Scene
from vermilion.line.crafts import Encoded
from vermilion.line.reading import checked
from vermilion.settings import Settings
from vermilion.types import Sample, SpeechSettings


class SpeechCraft:
    """Makes WAV files (24 kHz, 16 bit) of text."""

    def settings(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See `Craft.settings`; the fields are those of `SpeechSettings`."""
        settings = checked(SpeechSettings, dict(values), where)
        if not 0.5 <= settings.speed <= 2:
            raise InputError(f"{where}.speed must be 0.5 to 2 (found {settings.speed})")
        if settings.loudness is not None and not -40 <= settings.loudness <= -10:
            raise InputError(f"{where}.loudness must be -40 to -10 (found {settings.loudness})")
        return asdict(settings)

    def each(self, values: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
        """See `Craft.each`; a seed is all that differs."""
        return [dict(values) for _ in range(n)]

    def model(self, values: Mapping[str, Any], settings: Settings) -> str:
        """The voice that the settings name, or the usual one."""
        voice = values.get("voice")
        return f"hibari-{voice}" if voice else settings.speech_model

    def finish(self, sample: Sample) -> Sample:
        """Bring it to the loudness that the settings ask for."""
        settings = SpeechSettings(**sample.prompt.settings)
        wave, rate = np.asarray(sample.content, np.float32), self._rate(sample)
        if settings.loudness is not None:
            wave = sound.normalise(wave, rate, settings.loudness)
        level = sound.loudness(wave, rate)
        notes = {
            **sample.notes,
            "duration": round(len(wave) / rate, 3),
            "lufs": round(level, 1) if np.isfinite(level) else None,
        }
        return replace(sample, content=wave, notes=notes)

    def failures(self, sample: Sample, checks: Mapping[str, Any], scene: Scene) -> Sequence[str]:
        """Silence fails; nothing else is checked yet."""
        return () if np.abs(sample.content).max(initial=0) > 1e-4 else ("is silent",)

    def score(self, sample: Sample) -> float:
        """All are equal."""
        return 0.0

    def text(self, sample: Sample) -> str:
        """What is spoken."""
        return sample.prompt.text

    def encode(self, sample: Sample) -> Encoded:
        """A WAV file, 16 bit, at the voice's sample rate."""
        wave = np.asarray(sample.content, np.float32)
        content, media_type = sound.encode(wave, self._rate(sample), "wav")
        text = self.text(sample)
        return Encoded(content=content, media_type=media_type, suffix="wav", text=text)

    def _rate(self, sample: Sample) -> int:
        if sample.sample_rate is None:
            raise InputError(f"{sample.prompt.model} gave a sound without a sample rate")
        return sample.sample_rate
