"""ResNet (He et al. 2016): transformers' ResNetModel, with the names of its tensors.

    y = f(layer(x) + shortcut(x))          eq. 1; where sizes differ the shortcut is a convolution

N pictures, C channels, S side; within a stage C and S are the stage's.
"""

from __future__ import annotations

from torch import Tensor, nn

from vermilion.models.contrast.config import ResNetConfig
from vermilion.nn.feed_forward import ACTIVATIONS
from vermilion.nn.linear import Conv2d


class Convolution(nn.Module):
    """A convolution that keeps the sides or divides them, normalised over the batch."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int, act: str | None) -> None:
        super().__init__()
        self.convolution = Conv2d(inner, outer, kernel, stride, padding=kernel // 2, bias=False)
        self.normalization = nn.BatchNorm2d(outer)
        self.activation = None if act is None else ACTIVATIONS[act]
        if not self.convolution.weight.is_meta:
            nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) → (N, C', S', S')."""
        y: Tensor = self.normalization(self.convolution(x))
        return y if self.activation is None else self.activation(y)


class Block(nn.Module):
    """Two convolutions or three, and what they are added to."""

    def __init__(self, inner: int, outer: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        changes = inner != outer or stride != 1
        self.shortcut = Convolution(inner, outer, 1, stride, None) if changes else nn.Identity()
        # The published model has ReLU within, whatever the config says.
        if config.layer_type == "basic":
            self.layer = nn.Sequential(
                Convolution(inner, outer, 3, stride, "relu"),
                Convolution(outer, outer, 3, 1, None),
            )
        else:
            narrow = outer // 4
            first, second = (stride, 1) if config.downsample_in_bottleneck else (1, stride)
            self.layer = nn.Sequential(
                Convolution(inner, narrow, 1, first, "relu"),
                Convolution(narrow, narrow, 3, second, "relu"),
                Convolution(narrow, outer, 1, 1, None),
            )
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) → (N, C', S', S')."""
        return self.activation(self.layer(x) + self.shortcut(x))


class Stem(nn.Module):
    """The first convolution and pooling, which divide the sides by four."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.embedder = Convolution(
            config.num_channels, config.embedding_size, 7, 2, config.hidden_act
        )
        self.pooler = nn.MaxPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) → (N, C', S/4, S/4)."""
        y: Tensor = self.pooler(self.embedder(x))
        return y


class Stage(nn.Module):
    """Blocks of one width."""

    def __init__(
        self, inner: int, outer: int, stride: int, depth: int, config: ResNetConfig
    ) -> None:
        super().__init__()
        rest = (Block(outer, outer, 1, config) for _ in range(depth - 1))
        self.layers = nn.Sequential(Block(inner, outer, stride, config), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) → (N, C', S', S')."""
        y: Tensor = self.layers(x)
        return y


class Stages(nn.Module):
    """All stages; each but the first halves the sides."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        first = 2 if config.downsample_in_first_stage else 1
        strides = [first] + [2] * (len(config.depths) - 1)
        inner = (config.embedding_size, *config.hidden_sizes)
        self.stages = nn.ModuleList(
            Stage(*sizes, config=config)
            for sizes in zip(inner, config.hidden_sizes, strides, config.depths, strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) → (N, C', S', S')."""
        for stage in self.stages:
            x = stage(x)
        return x


class ResNet(nn.Module):
    """The network; a picture's vector is the mean of its last features.

    Args:
        config: its sizes.

    Attributes:
        size: features of the vector.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config, self.size = config, config.hidden_sizes[-1]
        self.embedder = Stem(config)
        self.encoder = Stages(config)

    def hidden(self, pictures: Tensor) -> Tensor:
        """Features of every place: (N, C, S, S) → (N, size, S/32, S/32) with four stages."""
        y: Tensor = self.encoder(self.embedder(pictures))
        return y

    def forward(self, pictures: Tensor) -> Tensor:
        """A vector for each picture: (N, C, S, S) → (N, size)."""
        return self.hidden(pictures).mean((2, 3))
