"""Prompts → samples: draws several, drops those that fail a check, keeps the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vermilion.line.checks import Scene
from vermilion.line.crafts import Craft
from vermilion.line.plan import PlannedStep, derive_seed
from vermilion.line.scores import MEASURES
from vermilion.runtime.engines import Engine, OnPiece
from vermilion.types import Prompt, Sample


@dataclass(frozen=True, slots=True)
class Chosen:
    """The sample that is kept for one prompt.

    Attributes:
        sample: finished.
        failures: what is wrong with it; empty when it passes all checks.
        draws: how many samples were made until it was chosen.
    """

    sample: Sample
    failures: tuple[str, ...]
    draws: int

    def notes(self, seconds: float) -> dict[str, Any]:
        """What is kept of how it was chosen, which took some seconds."""
        return {
            "seconds": round(seconds, 3),
            "draws": self.draws,
            "failures": list(self.failures),
        }


def generate(
    engine: Engine,
    planned: PlannedStep,
    prompts: Sequence[Prompt],
    scene: Scene,
    seed: int,
    on_piece: OnPiece | None = None,
    on_round: Callable[[int, int], None] | None = None,
    faults: Callable[[str, Any], tuple[str, ...]] = lambda text, content: (),
) -> list[Chosen]:
    """One sample for each prompt.

    The rule: `candidates` samples are drawn for each prompt; of those that pass all checks
    the one with the highest score is kept (for text: the mean log-probability of its
    tokens); where the step names a measure, the sum of its figures comes before that. Where
    none passes, `candidates` more are drawn with the next seeds, `tries` times in all; then
    the one that fails the fewest checks is kept, with what it fails.

    Args:
        engine: of the step's model.
        planned: the step.
        prompts: its prompts; none, then nothing is made.
        scene: what checks hold samples against, but for the prompt and the step's own texts.
        seed: of the whole set.
        on_piece: called as in `Engine.generate`.
        on_round: called with the number of the round and how many samples it draws.
        faults: what else is wrong with a sample, of its words and content, such as a safety rule
            that it breaks.
    """
    step, craft = planned.step, planned.craft
    best: dict[int, Chosen] = {}
    for attempt in range(step.tries):
        open_ = [n for n in range(len(prompts)) if n not in best or best[n].failures]
        if not open_:
            break
        draws = [
            (n, replace(prompts[n], seed=derive_seed(seed, prompts[n].text, n, draw)))
            for n in open_
            for draw in range(attempt * step.candidates, (attempt + 1) * step.candidates)
        ]
        if on_round is not None:
            on_round(attempt, len(draws))
        samples: list[Sample | None] = [None] * len(draws)
        for number, sample in engine.generate([prompt for _, prompt in draws], on_piece):
            samples[number] = _measured(craft.finish(sample), craft, step.rank)
        for n in open_:
            others = [best[i] for i in best if i != n and not best[i].failures]
            taken = [craft.text(other.sample) for other in others]
            here = replace(scene, prompt=prompts[n].text, taken=taken)
            drawn = [s for (of, _), s in zip(draws, samples, strict=True) if of == n and s]
            rated = [
                Chosen(
                    s, (*craft.failures(s, step.checks, here), *faults(craft.text(s), s.content)), 0
                )
                for s in drawn
            ]
            if n in best:
                rated.append(best[n])
            winner = max(rated, key=lambda c: (-len(c.failures), *_rank(c.sample, craft)))
            best[n] = replace(winner, draws=(attempt + 1) * step.candidates)
    return [best[n] for n in range(len(prompts))]


def _measured(sample: Sample, craft: Craft, name: str) -> Sample:
    """The sample with its figures under the measure of that name, if any, in its notes."""
    if not name:
        return sample
    figures = dict(MEASURES[name](craft.text(sample)))
    return replace(sample, notes={**sample.notes, "measures": figures})


def _rank(sample: Sample, craft: Craft) -> tuple[float, float]:
    """What candidates that fail equally are ordered by."""
    return sum(sample.notes.get("measures", {}).values()), craft.score(sample)
