"""Prompts → samples: draws several, drops those that fail a check, keeps the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vermilion.line.checks import Scene
from vermilion.line.plan import PlannedStep, derive_seed
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


def generate(
    engine: Engine,
    planned: PlannedStep,
    prompts: Sequence[Prompt],
    scene: Scene,
    seed: int,
    on_piece: OnPiece | None = None,
    on_round: Callable[[int, int], None] | None = None,
) -> list[Chosen]:
    """One sample for each prompt.

    The rule: `candidates` samples are drawn for each prompt; of those that pass all checks
    the one with the highest score is kept (for text: the mean log-probability of its
    tokens). Where none passes, `candidates` more are drawn with the next seeds, `tries`
    times in all; then the one that fails the fewest checks is kept, with what it fails.

    Args:
        engine: of the step's model.
        planned: the step.
        prompts: its prompts; none, then nothing is made.
        scene: what checks hold samples against, but for the prompt and the step's own texts.
        seed: of the whole set.
        on_piece: called as in `Engine.generate`.
        on_round: called with the number of the round and how many samples it draws.
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
            samples[number] = craft.finish(sample)
        for n in open_:
            others = [best[i] for i in best if i != n and not best[i].failures]
            taken = [craft.text(other.sample) for other in others]
            here = replace(scene, prompt=prompts[n].text, taken=taken)
            drawn = [s for (of, _), s in zip(draws, samples, strict=True) if of == n and s]
            rated = [Chosen(s, tuple(craft.failures(s, step.checks, here)), 0) for s in drawn]
            if n in best:
                rated.append(best[n])
            winner = max(rated, key=lambda c: (-len(c.failures), craft.score(c.sample)))
            best[n] = replace(winner, draws=(attempt + 1) * step.candidates)
    return [best[n] for n in range(len(prompts))]
