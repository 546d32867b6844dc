"""Two processes on the CPU have the numbers of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vermilion as vm
from tests.train.runs import SMALL, column, weights

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.parametrize("sharding", ["off", "full"])
def test_two_processes_have_the_loss_of_one(sharding: str, text: Path, home: Path) -> None:
    settings = {**SMALL, "max_steps": 6, "micro_batch": 1, "eval_steps": 3}
    vm.train_lm(text, name="one", settings=settings | {"micro_batch": 4})
    pairs = [f"{key}={value}" for key, value in settings.items()]
    command = ["train", "lm", "--data", str(text), "--name", "two", "--set", *pairs]
    done = subprocess.run(
        [*LAUNCH, "-m", "vermilion", *command, f"sharding={sharding}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for heading in ("loss", "grad_norm", "validation_loss"):
        one, two = column("one", home, heading), column("two", home, heading)
        assert two == pytest.approx(one, rel=1e-5)
    one_net, two_net = weights("one", home), weights("two", home)
    for key, value in one_net.items():
        torch.testing.assert_close(two_net[key], value, rtol=1e-3, atol=1e-5)
    assert vm.Store(home / "models").show("two").state == "ready"
