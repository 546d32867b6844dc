"""The losses against plain sums of their equations, and two processes against one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from tests.models.contrast import ranks
from vermilion.models.contrast.loss import (
    clamp,
    clip_loss,
    info_nce,
    nt_xent,
    sigmoid_loss,
)


def vectors(count: int, seed: int) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def unit(count: int, seed: int) -> Tensor:
    return F.normalize(vectors(count, seed), dim=-1)


def test_info_nce() -> None:
    q, k, more = vectors(5, 0), vectors(5, 1), vectors(7, 2)
    for negatives in (None, more):
        keys = k if negatives is None else torch.cat((k, negatives))
        terms = [
            -math.log(math.exp(q[i] @ k[i] / 0.7) / sum(math.exp(q[i] @ key / 0.7) for key in keys))
            for i in range(5)
        ]
        found = info_nce(q, k, temperature=0.7, negatives=negatives)
        assert float(found) == pytest.approx(sum(terms) / 5, rel=1e-5)


def test_nt_xent() -> None:
    first, second = vectors(4, 0), vectors(4, 1)
    z = F.normalize(torch.cat((first, second)), dim=-1)

    def term(i: int) -> float:
        other = (i + 4) % 8
        rest = sum(math.exp(z[i] @ z[j] / 0.2) for j in range(8) if j != i)
        return -math.log(math.exp(z[i] @ z[other] / 0.2) / rest)

    found = nt_xent(first, second, temperature=0.2)
    assert float(found) == pytest.approx(sum(map(term, range(8))) / 8, rel=1e-5)
    assert float(nt_xent(second, 3 * first, temperature=0.2)) == pytest.approx(float(found))


def test_clip_loss_is_that_of_transformers() -> None:
    pictures, texts, scale = unit(5, 0), unit(5, 1), torch.tensor(1.7)
    expected = image_text_contrastive_loss(scale.exp() * texts @ pictures.T)
    torch.testing.assert_close(clip_loss(pictures, texts, scale), expected)
    same = unit(1, 0).expand(5, 6)
    assert float(clip_loss(same, same, scale)) == pytest.approx(math.log(5))


def test_sigmoid_loss() -> None:
    pictures, texts = unit(4, 0), unit(4, 1)
    scale, bias = torch.tensor(math.log(10)), torch.tensor(-10.0)
    total = 0.0
    for i in range(4):
        for j in range(4):
            sign = 1 if i == j else -1
            logit = sign * (10 * float(pictures[i] @ texts[j]) - 10)
            total -= math.log(1 / (1 + math.exp(-logit)))
    found = sigmoid_loss(pictures, texts, scale, bias)
    assert float(found) == pytest.approx(total / 4, rel=1e-5)


def test_the_scale_is_kept_and_comes_back() -> None:
    scale = nn.Parameter(torch.tensor(9.0))
    clamp(scale)
    assert float(scale.detach().exp()) == pytest.approx(100)
    clip_loss(unit(5, 0), unit(5, 1), scale).backward()
    assert scale.grad is not None
    assert float(scale.grad) > 0  # a step makes it smaller
    small = nn.Parameter(torch.tensor(-2.0))
    clamp(small)
    assert float(small.detach()) == -2


def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = tmp_path / "found.safetensors"
    done = subprocess.run(
        [*launch, "-m", "tests.models.contrast.ranks", str(path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = load_file(path)
    for name in ranks.NAMES:
        net = ranks.Losses()
        value = net(name, *ranks.inputs())
        value.backward()
        torch.testing.assert_close(found[f"{name}.loss"], value.detach())
        one = ranks.gradients(net)
        assert len(one) == {"clip": 3, "sigmoid": 4}.get(name, 2)
        for parameter, gradient in one.items():
            assert gradient.abs().max() > 1e-3
            torch.testing.assert_close(found[f"{name}.{parameter}"], gradient, atol=1e-6, rtol=1e-4)
