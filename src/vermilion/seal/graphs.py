"""ComfyUI's graphs: from the node that samples to the words, numbers and models that lead to it.

A graph is nodes by their id, each with a class and inputs; an input is a value, or a link
[id, output]. Anyone can write any graph into a picture: every walk visits a node once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MOST_NODES = 10_000
_LONGEST = 100_000  # characters of prompts that are gathered

Node = Mapping[str, Any]  # the inputs of a node, by name
Graph = dict[str, Node]

_TEXTS = (
    "text", "text_g", "text_l", "clip_l", "t5xxl", "prompt", "string", "String", "value",
    "text_positive", "text_negative", "positive_prompt", "negative_prompt", "wildcard_text",
    "text1", "text2", "string_a", "string_b", "text_a", "text_b", "a", "b",
)  # fmt: skip
# Links that lead away from words: to weights and pictures.
_ASIDE = frozenset({"clip", "model", "vae", "image", "pixels", "latent", "latent_image", "mask"})
_ASIDE |= {"control_net", "clip_vision_output", "style_model", "images", "samples"}
_SAMPLER_LINKS = ("positive", "guider")
# For a graph as it is drawn: the names of a node's values, in the order in which it has them.
_WIDGETS = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "SamplerCustom": ("", "noise_seed", "", "cfg"),
    "RandomNoise": ("noise_seed",),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "CLIPTextEncode": ("text",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name",),
    "EmptyLatentImage": ("width", "height"),
    "EmptySD3LatentImage": ("width", "height"),
    "PrimitiveStringMultiline": ("value",),
}
_ZERO = "ConditioningZeroOut"
_CLASS = "class_type"


def from_prompt(value: Any) -> Graph:
    """The graph of ComfyUI's key `prompt`; empty: it is none."""
    if not isinstance(value, Mapping) or len(value) > MOST_NODES:
        return {}
    graph: Graph = {}
    for name, node in value.items():
        inputs = node.get("inputs") if isinstance(node, Mapping) else None
        if isinstance(inputs, Mapping):
            graph[str(name)] = {**inputs, _CLASS: str(node.get(_CLASS, ""))}
    return graph


def from_workflow(value: Any) -> Graph:
    """The graph of ComfyUI's key `workflow`, as far as its kinds of nodes are known."""
    nodes = value.get("nodes") if isinstance(value, Mapping) else None
    links = value.get("links") if isinstance(value, Mapping) else None
    if not isinstance(nodes, list) or not isinstance(links, list) or len(nodes) > MOST_NODES:
        return {}
    sources = {
        str(link[0]): [str(link[1]), link[2]]
        for link in links
        if isinstance(link, list) and len(link) > 3
    }
    graph: Graph = {}
    for node in nodes:
        if isinstance(node, Mapping):
            kind = str(node.get("type", ""))
            graph[str(node.get("id"))] = {**_values(node, kind), **_links(node, sources)} | {
                _CLASS: kind
            }
    return graph


def _values(node: Mapping[str, Any], kind: str) -> dict[str, Any]:
    values = node.get("widgets_values")
    if not isinstance(values, list):
        return {}
    names = _WIDGETS.get(kind, ())
    return {name: value for name, value in zip(names, values, strict=False) if name}


def _links(node: Mapping[str, Any], sources: Mapping[str, list[Any]]) -> dict[str, Any]:
    inputs = node.get("inputs")
    return {
        str(entry.get("name")): sources[str(entry.get("link"))]
        for entry in (inputs if isinstance(inputs, list) else [])
        if isinstance(entry, Mapping) and str(entry.get("link")) in sources
    }


def _linked(value: Any) -> str | None:
    """The id that a link leads to; None: the value is no link."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
        return str(value[0])
    return None


def _upstream(graph: Graph, starts: Sequence[Any], aside: frozenset[str]) -> Iterator[Node]:
    """The nodes that links lead to, nearest first, each once."""
    waiting = deque(starts)
    seen: set[str] = set()
    while waiting:
        name = _linked(waiting.popleft())
        if name is None or name in seen or name not in graph:
            continue
        seen.add(name)
        node = graph[name]
        yield node
        if node[_CLASS] != _ZERO:
            waiting.extend(value for key, value in node.items() if key not in aside)


def _is_sampler(node: Node) -> bool:
    return any(_linked(node.get(name)) is not None for name in _SAMPLER_LINKS) and (
        "latent_image" in node or "latent" in node or "steps" in node
    )


def sampler_of(graph: Graph) -> Node | None:
    """The node that makes the picture: of several in a row, the first, which starts from noise."""
    saved = [
        value
        for node in graph.values()
        if "Save" in node[_CLASS] or "Preview" in node[_CLASS]
        for value in node.values()
    ]
    ways = [*_upstream(graph, saved, frozenset()), *graph.values()]
    found = next((node for node in ways if _is_sampler(node)), None)
    seen: list[Node] = []
    while found is not None and not any(found is node for node in seen) and len(seen) < 100:
        seen.append(found)
        latents = [found.get("latent_image"), found.get("latent")]
        before = _upstream(graph, latents, frozenset({"positive", "negative", "guider"}))
        found = next((node for node in before if _is_sampler(node)), None)
    return seen[-1] if seen else None


def setting(graph: Graph, node: Node, names: Sequence[str], ways: Sequence[str]) -> Any:
    """A value of a node, or the nearest one of that name along some of its links; or None."""
    nodes = [node, *_upstream(graph, [node.get(way) for way in ways], frozenset())]
    for near in nodes:
        for name in names:
            value = near.get(name)
            if _linked(value) is not None:
                value = _far(graph, value, names)
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                return value
    return None


def _far(graph: Graph, link: Any, names: Sequence[str]) -> Any:
    """A value that comes over a link: of the same name, or the one number that a node has."""
    for far in _upstream(graph, [link], frozenset()):
        for name in names:
            if isinstance(far.get(name), str | int | float):
                return far[name]
        numbers = [value for value in far.values() if isinstance(value, int | float)]
        if len(numbers) == 1:
            return numbers[0]
    return None


def words(graph: Graph, node: Node, side: str) -> str:
    """The text of a sampler's conditioning, "positive" or "negative"; several in lines."""
    starts = [node.get(side)]
    for guider in _upstream(graph, [node.get("guider")], frozenset({"model"})):
        starts.append(
            guider.get(side) or (guider.get("conditioning") if side == "positive" else None)
        )
        break
    found: list[str] = []
    length = 0
    for near in _upstream(graph, starts, _ASIDE):
        for name in _TEXTS:
            value = near.get(name)
            if isinstance(value, str) and value.strip() and value not in found:
                found.append(value.strip())
                length += len(value)
        if length > _LONGEST:
            break
    return "\n".join(found)[:_LONGEST]
