from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from vermilion.errors import InputError
from vermilion.models.diffusion.prompt import Chunk, Ends, Span, chunks, encode, is_plain, parse

ENDS = Ends(length=10, bos=1, eos=2, pad=2, comma=ord(","))


def spans(text: str) -> list[tuple[str, float]]:
    return [(span.text, round(span.weight, 6)) for span in parse(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [("", 1)]),
        ("a red fox", [("a red fox", 1)]),
        ("a (red) fox", [("a ", 1), ("red", 1.1), (" fox", 1)]),
        ("((red))", [("red", 1.21)]),
        ("[red]", [("red", round(1 / 1.1, 6))]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(red : -.5 ) fox", [("red ", -0.5), (" fox", 1)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1), (" c", 0.5)]),
        ("[(a):b]", [("a", 1), (":b", round(1 / 1.1, 6))]),
        ("(a:0)", [("a", 0)]),
        (r"\(a\) \[b\] \\ \c", [(r"(a) [b] \ \c", 1)]),
        (r"(a\):2)", [("a)", 2)]),
        ("(a", [("a", 1.1)]),
        ("[a (b", [("a ", round(1 / 1.1, 6)), ("b", 1)]),
        ("a) b] :2) 10:30", [("a) b] :2) 10:30", 1)]),
        ("(a: b)", [("a: b", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a]b)", [("a]b", 1.1)]),
    ],
)
def test_weights_are_read(text: str, found: list[tuple[str, float]]) -> None:
    assert spans(text) == found


def test_the_example_of_the_webui() -> None:
    # From the docstring of its parse_prompt_attention.
    text = "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))."
    assert spans(text) == [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ]


def test_break_begins_a_chunk() -> None:
    found = parse("a fox BREAK BREAKFAST (red BREAK blue:1.5)")
    assert found == (
        Span("a fox"),
        Span("BREAKFAST ", breaks=True),
        Span("red", 1.5),
        Span("blue", 1.5, breaks=True),
    )
    assert parse("BREAK") == (Span("", breaks=True),)
    assert not is_plain("a BREAK b")
    assert not is_plain("(a)")
    assert is_plain("a, 10:30 b) c")


def test_a_weight_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="prompt: the weight 13 is beyond -10 to 10"):
        parse("(a:13)")


@given(st.text(alphabet="ab()[]\\:.,1 "))
def test_no_sign_is_lost(text: str) -> None:
    found = parse(text)
    assert all(math.isfinite(span.weight) for span in found)
    kept = "".join(span.text for span in found)
    letters = [sign for sign in text if sign in "ab,"]
    assert [sign for sign in kept if sign in "ab,"] == letters


def tokens(text: str) -> list[int]:
    return [ord(sign) for sign in text if sign != " "]


def test_a_chunk_has_ends_and_padding() -> None:
    (chunk,) = chunks("a (b:2)", tokens, ENDS)
    assert chunk == Chunk((1, ord("a"), ord("b"), *(2,) * 7), (1, 1, 2, *(1,) * 7))
    assert chunks("", tokens, ENDS) == (Chunk((1, *(2,) * 9), (1,) * 10),)


def body(chunk: Chunk) -> str:
    return "".join(chr(token) for token in chunk.ids if token > 2)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("abcdefgh", ["abcdefgh"]),
        ("abcdefghi", ["abcdefgh", "i"]),
        ("ab,cdefghij", ["ab,", "cdefghij"]),
        ("abcdefg,hi", ["abcdefg,", "hi"]),
        ("ab BREAK c", ["ab", "c"]),
        ("ab BREAK", ["ab"]),
        ("BREAK ab", ["", "ab"]),
    ],
)
def test_long_prompts_are_cut(text: str, parts: list[str]) -> None:
    found = chunks(text, tokens, ENDS)
    assert [body(chunk) for chunk in found] == parts
    assert {len(chunk.ids) for chunk in found} == {10}


@pytest.fixture(scope="module")
def tower() -> nn.Module:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=200,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=10,
        bos_token_id=1,
        eos_token_id=2,
    )
    return CLIPTextModel(config).eval()


@pytest.fixture(scope="module")
def plain(tower: nn.Module):
    @torch.inference_mode()
    def hidden(ids: Tensor) -> Tensor:
        return tower(input_ids=ids).last_hidden_state

    return hidden


def test_without_weights_it_is_the_plain_encoding(plain) -> None:
    ids = torch.tensor([[1, *map(ord, "afox"), 2, 2, 2, 2, 2], [1, *(2,) * 9]])
    found = encode(["a fox", ""], tokens, plain, ENDS)
    torch.testing.assert_close(found, plain(ids), rtol=0, atol=1e-6)


def test_weights_move_their_own_tokens_only(plain) -> None:
    as_it_is, none, double = encode(["ab c", "a(b:0)c", "a(b:2)c"], tokens, plain, ENDS)
    empty = encode([""], tokens, plain, ENDS)[0]
    others = [0, 1, *range(3, 10)]
    assert torch.equal(none[others], as_it_is[others])
    torch.testing.assert_close(none[2], empty[2])
    torch.testing.assert_close(double[2] - empty[2], 2 * (as_it_is[2] - empty[2]))


def test_chunks_are_read_apart_and_laid_in_a_row(plain) -> None:
    long, short = encode(["abcdefghij", "k"], tokens, plain, ENDS)
    assert long.shape == (20, 16)
    first, second, third, empty = encode(["abcdefgh", "ij", "k", ""], tokens, plain, ENDS)
    torch.testing.assert_close(long, torch.cat((first, second)))
    torch.testing.assert_close(short, torch.cat((third, empty)))
    assert encode(["a"], tokens, plain, ENDS, least=3).shape == (1, 30, 16)
