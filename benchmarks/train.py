"""Times training of a 10M-parameter GPT against minGPT itself, which is named by its path.

    python benchmarks/train.py --mingpt PATH

Both train 6 layers, 6 heads, 384 features at a context of 256 on the same batches of characters,
with the same AdamW settings, gradient clipping and dropout, on the same threads. A round is one
step of each, in turn. minGPT runs its own model and optimiser, without its data loader's workers,
which would take the cores from it. It computes a step's windows at once, we compute them in parts;
both are timed with 64 windows a step, as minGPT's trainer has it, and with 16, which suit it best.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from harness import Work, compare, headline, seconds
from vermilion.data.documents import Piece
from vermilion.data.packed import Tokens, pack
from vermilion.data.windows import Windows
from vermilion.models.lm.net import LM
from vermilion.models.lm.train_tokenizer import characters
from vermilion.train.distributed import World
from vermilion.train.learner import Learner
from vermilion.train.lm.options import Shape, config_of
from vermilion.train.lm.task import LanguageTask
from vermilion.train.options import Training

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz .,;:!?'-&$3\n"
CONTEXT = 256
CPU = torch.device("cpu")


def ours(folder: Path, batch: int, micro: int | None, dropout: float) -> Learner:
    """The learner of `vermilion train lm` on letters drawn at random."""
    drawn = torch.randint(len(LETTERS), (200_000,), generator=torch.Generator().manual_seed(0))
    text = Piece("".join(LETTERS[i] for i in drawn.tolist()))
    tokenizer = characters([LETTERS])
    header = pack(
        [text],
        lambda pieces: (([LETTERS.index(c) for c in p.text], None) for p in pieces),
        folder / "tokens",
        key="letters",
        vocab_size=len(LETTERS),
        validation=0.0,
    )
    windows = Windows(Tokens(folder / "tokens", "train", header), CONTEXT, seed=0)
    shape = Shape(architecture="GPT2LMHeadModel", tie_word_embeddings=False)
    net = LM(config_of(shape, len(LETTERS), 0, dropout))
    net.init_weights(0)
    task = LanguageTask(net.train(), tokenizer, windows, None, batch_size=batch)
    options = Training(batch_size=batch, micro_batch=micro, learning_rate=3e-4, warmup_steps=0)
    return Learner(task, replace(options, schedule="constant"), World(CPU))


def mingpt(path: Path, learner: Learner, dropout: float) -> Work:
    """A step of minGPT's own model and optimiser on the same windows."""
    sys.path.insert(0, str(path))
    GPT: Any = import_module("mingpt.model").GPT
    config = GPT.get_default_config()
    config.model_type, config.n_layer, config.n_head, config.n_embd = None, 6, 6, 384
    config.vocab_size, config.block_size = len(LETTERS), CONTEXT
    config.embd_pdrop = config.resid_pdrop = config.attn_pdrop = dropout
    with contextlib.redirect_stdout(io.StringIO()):
        model = GPT(config).train()
    settings = SimpleNamespace(learning_rate=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    optimizer = model.configure_optimizers(settings)
    size, done = learner.options.batch_size, [0]

    def step() -> None:
        ids, targets = learner.task.batch(done[0] * size, size, CPU)
        done[0] += 1
        _, loss = model(ids, targets)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return seconds(step)


def speed(step: Work, tokens: int) -> Work:
    """Tokens a second of a step that is timed."""
    return lambda: tokens / step()


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mingpt", type=Path, required=True, help="a checkout of karpathy/minGPT")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 16], help="windows of a step")
    parser.add_argument("--micro", type=int, help="windows that we compute at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.1, help="for both")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    headline()
    for batch in args.batch:
        tokens = batch * CONTEXT
        with tempfile.TemporaryDirectory() as folder:
            learner = ours(Path(folder), batch, args.micro, args.dropout)
            compare(
                f"training a 10M GPT, {batch} windows a step, dropout {args.dropout}",
                speed(seconds(learner.advance), tokens),
                "minGPT",
                speed(mingpt(args.mingpt, learner, args.dropout), tokens),
                unit="tokens/s",
                rounds=args.rounds,
                higher_is_better=True,
            )


if __name__ == "__main__":
    main()
