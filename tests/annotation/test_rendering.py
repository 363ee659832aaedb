"""Texts become HTML that looks right and does nothing."""

import re
import sys
import time
from itertools import count
from types import FrameType
from typing import Any

import pytest

from annotation.differences import mark_differences, mark_words
from annotation.markdown import HIGHLIGHT_SECONDS, LONGEST_MARKDOWN, MARKDOWN, MOST_CELLS, render_text
from annotation.models import Conversation, Response
from annotation.rendering import count_shared, render_messages, render_sides

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[click](vbscript:msgbox(1))",
    "![x](javascript:alert(1))",
    '[a](https://x.example "onmouseover=alert(1)")',
    '[a](https://x.example/"onmouseover="alert(1))',
    "<https://x.example/\"onmouseover='alert(1)'>",
    "```<script>alert(1)</script>\ncode\n```",
    '```python" onmouseover="alert(1)\ncode\n```',
    "```html\n<script>alert(1)</script>\n```",
    r"$\text{<img src=x onerror=alert(1)>}$",
    r"$$\text{</mtext></math><script>alert(1)</script>}$$",
    r"$\href{javascript:alert(1)}{x}$",
    r"\(\unicode{<svg/onload=alert(1)>}\)",
    r"$\style{background:url(javascript:alert(1))}{x}$",
    r"\begin{align}<iframe src=javascript:alert(1)>\end{align}",
    "| <img src=x onerror=alert(1)> | b |\n|---|---|\n| <b onclick=alert(1)> | 2 |",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<form action=https://evil.example><button>send</button></form>",
    '<a id="answer" name="offer" class="button" style="position:fixed">x</a>',
    "<!--><img src=x onerror=alert(1)>-->",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\x00<scr\x00ipt>alert(1)</scr\x00ipt>",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_could_run_comes_through(attack: str) -> None:
    html = str(render_text(attack))
    tags = re.findall(r"<[^>]*>", html)
    forbidden = ("script", "img", "svg", "iframe", "form", "button", "style", "object", "embed", "link", "meta", "base")
    for tag in tags:
        assert not re.match(rf"</?({'|'.join(forbidden)})\b", tag), tag
        assert not re.search(r"\s(on\w+|style|id|name|srcdoc)\s*=", tag), tag
        assert not re.search(r"(javascript|vbscript|data):", tag, re.IGNORECASE), tag


def test_html_in_a_text_is_shown_as_text() -> None:
    assert "&lt;b&gt;bold&lt;/b&gt;" in render_text("<b>bold</b>")


def test_markdown_tables_lists_and_strikethrough_are_rendered() -> None:
    html = render_text("| a | b |\n|---|--:|\n| 1 | 2 |\n\n1. one\n2. two\n\n~~gone~~ **bold**")
    assert '<td dir="auto" align="right">2</td>' in html
    assert html.count("<li") == 2
    assert "<s>gone</s> <strong>bold</strong>" in html


def test_code_is_highlighted_and_reads_left_to_right() -> None:
    html = render_text("```python\ndef f():\n    return 1\n```")
    assert '<pre dir="ltr">' in html
    assert '<span class="k">def</span>' in html


def test_code_of_an_unknown_language_is_shown_as_it_is() -> None:
    assert "a &lt; b" in render_text("```klingon\na < b\n```")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("java", "\n" * 39_000),
        ("cpp", "\n" * 39_000),
        ("make", "a" * 39_000),
        ("matlab", "x = 1;\n" + "\t\n" * 19_000),
        ("console", "a:" * 19_000),
        ("autohotkey", "a := 1\n" * 5_000),
        ("python", "x = 1\n" * 10_000),
    ],
)
def test_code_that_a_lexer_may_never_come_to_the_end_of_is_shown_as_it_is(
    language: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pygments.lexer.Lexer.get_tokens", lambda *_asked: pytest.fail("was read"))
    assert MARKDOWN.render(f"```{language}\n{code}\n```") == f'<pre dir="ltr"><code>{code}\n</code></pre>'


def test_the_code_of_a_text_is_highlighted_until_the_time_for_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr("annotation.markdown.thread_time", lambda: next(ticks) * HIGHLIGHT_SECONDS / 100)
    short, long = "return 1;\n", "words in Java " * 2_000 + "\n"
    html = MARKDOWN.render(f"```java\n{short}```\n```java\n{long}```\n```java\n{short}```")
    first, second, third = re.findall(r"<code>(.*?)</code>", html, re.DOTALL)
    assert '<span class="k">return</span>' in first
    assert (second, third) == (long, short)
    assert next(ticks) < 120  # each token asks once


@pytest.mark.parametrize("source", ["$x^2$", r"\(x^2\)"])
def test_formulas_become_mathml(source: str) -> None:
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in render_text(f"So {source} it is.")


@pytest.mark.parametrize("source", ["$$x^2$$", r"\[x^2\]", "\\begin{align}\nx^2 &= y\n\\end{align}"])
def test_displayed_formulas_stand_on_a_line_of_their_own(source: str) -> None:
    assert '<math display="block">' in render_text(source)


def test_money_is_no_formula() -> None:
    assert render_text("It costs $5 and then $10.") == '<p dir="auto">It costs $5 and then $10.</p>\n'


def test_a_comparison_inside_a_formula_survives() -> None:
    assert "<mi>a</mi><mo>&lt;</mo><mi>b</mi>" in render_text("$a<b$")


def test_a_broken_formula_is_shown_as_it_was_written() -> None:
    assert "\\frac{" in render_text(r"$\begin{array} \frac{$ x")


def test_images_are_never_fetched() -> None:
    assert "<img" not in render_text("![a picture](https://tracker.example/pixel.png)")


def test_links_open_elsewhere_and_tell_nothing() -> None:
    html = render_text("[x](https://example.org)")
    assert 'rel="noopener noreferrer nofollow"' in html
    assert 'target="_blank"' in html


def test_every_block_finds_its_own_direction() -> None:
    html = render_text("مرحبا\n\nHello")
    assert html.count('<p dir="auto">') == 2


def test_headings_nest_under_the_page_without_a_gap() -> None:
    html = render_text("#### Deep\n\n# High\n\n### Lower\n\n##### Lowest")
    assert re.findall(r"<h(\d)", html) == ["3", "3", "4", "5"]


def test_line_breaks_of_a_prompt_are_kept() -> None:
    assert "one<br>" in render_text("one\ntwo")


def test_the_same_text_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"Only once: {time.monotonic_ns()}"
    first = render_text(text)
    monkeypatch.setattr("annotation.markdown._render_markdown", lambda _text: pytest.fail("rendered again"))
    assert render_text(text) == first


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 30_000,
        "\\(" * 30_000,
        "*a" * 30_000,
        "$$a" * 10_000,
        "`" * 30_000,
        "> " * 10_000,
        "|a" * 10_000,
        "<" * 30_000,
    ],
    ids=lambda text: text[:3],
)
def test_hostile_texts_do_not_take_forever(hostile: str) -> None:
    start = time.process_time()
    render_text(hostile)
    assert time.process_time() - start < 20  # what backtracks takes hours


def count_steps(text: str) -> int:
    """Lines of the markdown readers' own code that run."""
    steps = 0

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        MARKDOWN.render(text)
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize(
    "piece",
    [
        *("\\begin{align}a\n\n", "\\begin{align}a\n", "- \\begin{align}\n", "> \\begin{align}\n\n"),
        *("\\begin{align}x\\end{gather}\n\n", "\\begin{align}x\\end{align} y\n\n", "$$a\n\n", "- $$\n", "> $$a\n\n"),
        *("[", "[a](", "![", "*a **b ", "**a_b", "`a", "$a ", "~~a", "<a", "&a", ">- ", "- a\n", "> a\n", "a|b\n-|-\n"),
    ],
)
def test_four_times_the_text_takes_four_times_the_work(piece: str) -> None:
    short, long = (count_steps(piece * (size // len(piece))) for size in (2_000, 8_000))
    assert long < 7 * short  # sixteen times, where each opening walks to the end of the text


@pytest.mark.parametrize(
    "text",
    [
        "|a" * 800 + "|\n" + "|-" * 800 + "|\n" + "|\n" * 80,
        ("|a" * 50 + "|\n" + "|-" * 50 + "|\n" + "a\n" * 50 + "\n") * 15,
    ],
)
def test_few_bytes_of_a_table_never_become_megabytes(text: str) -> None:
    html = render_text(text)
    assert html.count("<td") + html.count("<th") <= MOST_CELLS
    assert len(html) < 1_000_000


def test_a_table_of_many_rows_is_a_table_and_one_beyond_all_measure_is_text() -> None:
    head = "| a | b | c | d |\n|---|---|---|---|\n"
    assert render_text(head + "| 1 | 2 | 3 | 4 |\n" * 4_000).count("<tr") == 4_001
    beyond = render_text(head + "| 1 | 2 | 3 | 4 |\n" * 6_000)
    assert "<table" not in beyond
    assert beyond.count("| 1 | 2 | 3 | 4 |") == 6_000


def test_a_response_is_formatted_as_far_as_it_may_be_long() -> None:
    message = {"role": "user", "content": "**word** " * (LONGEST_MARKDOWN // 30)}
    htmls = [turn.html for turn in render_messages([message] * 5)]
    assert ["<strong>" in html for html in htmls] == [True, True, True, False, False]
    assert htmls[4].startswith('<pre dir="auto">**word** ')


def test_twenty_thousand_words_are_quick() -> None:
    text = "\n\n".join(
        f"Paragraph {number} with **bold** words and `code`, " + "more words " * 20 for number in range(430)
    )
    assert len(text.split()) > 20_000
    start = time.process_time()
    html = render_text(text)
    assert html.count("<strong>bold</strong>") == 430
    assert time.process_time() - start < 10  # a quadratic renderer takes minutes


# Sides ----------------------------------------------------------------------------------------------------------------


def says(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user" if place % 2 else "assistant", "content": one} for place, one in enumerate(contents)]


def test_the_shared_beginning_of_responses_is_shown_once() -> None:
    shown = render_sides(
        Conversation(messages=[{"role": "user", "content": "Hello"}]),
        [
            Response(pk=1, messages=says("Same", "And then?", "This")),
            Response(pk=2, messages=says("Same", "And then?", "That")),
        ],
    )
    assert [turn.role for turn in shown.shared] == ["user", "assistant", "user"]
    assert [len(side.turns) for side in shown.sides] == [1, 1]
    assert "This" in shown.sides[0].turns[0].html
    assert [side.letter for side in shown.sides] == ["A", "B"]


def test_letters_go_on_beyond_z() -> None:
    shown = render_sides(
        Conversation(messages=[]), [Response(pk=pk, messages=says(f"{pk}")) for pk in range(26 * 27 + 1)]
    )
    letters = [side.letter for side in shown.sides]
    assert " ".join(letters[place] for place in (0, 25, 26, 27, 51, 52, 701, 702)) == "A Z AA AB AZ BA ZZ AAA"


def test_responses_of_which_one_begins_the_other_keep_a_turn_each() -> None:
    assert count_shared([says("Same"), says("Same", "More?", "Yes")]) == 0


def test_equal_responses_keep_their_last_turn() -> None:
    assert count_shared([says("a", "b", "c"), says("a", "b", "c")]) == 2


# Differences ----------------------------------------------------------------------------------------------------------


def test_words_that_differ_are_marked_on_both_sides() -> None:
    first, second = mark_words(render_text("I like blue cats"), render_text("I like red dogs and cats"))
    assert first == '<p dir="auto">I like <mark>blue</mark> cats</p>\n'
    assert second == '<p dir="auto">I like <mark>red dogs and</mark> cats</p>\n'


def test_marks_never_split_a_tag_an_entity_or_a_formula() -> None:
    first, second = mark_words(render_text("a **b** &amp; $x^2$"), render_text("a *c* &lt; $x^3$"))
    assert "<strong><mark>b</mark></strong> <mark>&amp;</mark>" in first
    assert "<em><mark>c</mark></em> <mark>&lt;</mark>" in second
    assert "<mark>" not in re.findall(r"<math.*?</math>", second)[0]


def test_equal_texts_have_no_marks() -> None:
    html = render_text("The same\n\n- words\n- twice")
    assert mark_words(html, html) == (html, html)


def test_removing_the_marks_gives_the_text_back() -> None:
    html = render_text(
        "Some `code`, a [link](https://x.example?a=1&b=2) and 日本語 & more\n\n```c\nint x = 1 < 2;\n```"
    )
    marked, _other = mark_words(html, render_text("Quite another text"))
    assert re.sub("</?mark>", "", marked) == html


def test_marked_sides_keep_turns_without_a_partner() -> None:
    shown = render_sides(
        Conversation(messages=[]),
        [Response(pk=1, messages=says("One")), Response(pk=2, messages=says("Two", "More", "Words"))],
    )
    marked = mark_differences(shown)
    assert [len(side.turns) for side in marked.sides] == [1, 3]
    assert "<mark>One</mark>" in marked.sides[0].turns[0].html


def test_differences_of_twenty_thousand_words_are_quick() -> None:
    words = [f"word{number % 3000}" for number in range(20_000)]
    other = [word if number % 10 else "other" for number, word in enumerate(words)]
    start = time.process_time()
    mark_words(render_text(" ".join(words)), render_text(" ".join(other)))
    assert time.process_time() - start < 20
