"""Models opened by transformers, to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint


def open_folder(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def open_gguf(path: Path) -> Any:
    """As `from_pretrained(folder, gguf_file=...)` does it, which wants accelerate as well."""
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_config(config).eval()
    weights = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not unexpected
    return model


@torch.inference_mode()
def logits(model: Any, ids: Tensor) -> Tensor:
    return model(ids).logits
