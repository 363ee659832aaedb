"""A text to safe HTML, on the server: markdown, tables, highlighted code, mathematics; nothing in a text can run.

Every step before the last may be wrong about safety: the allow-list of `nh3` comes last and lets no script, style,
image, form or handler through, whatever the markdown, LaTeX or code said.
"""

import hashlib
import re
from bisect import bisect_left
from collections.abc import MutableMapping, Sequence
from time import thread_time
from typing import Any

import nh3
from django.core.cache import caches
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from latex2mathml.converter import convert as latex_to_mathml
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock, table
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.amsmath import amsmath_block, amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.dollarmath.index import math_block_dollar
from pygments import format as write_tokens
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

VERSION = 2
"""Part of the cache's key: raise it when the same text renders differently."""
KEEP_SECONDS = 24 * 3600
LONGEST_MARKDOWN = 250_000
"""Characters of a response, about 40,000 words; what is longer is shown as it is, unformatted."""
MOST_CELLS = 20_000
"""Of all tables of one text; a table beyond them is shown as it was written."""
LONGEST_CODE = 40_000
"""Characters of one code block that are highlighted."""
HIGHLIGHT_SECONDS = 0.5
"""Of the processor for all code of one text. Lexers are quadratic in what they try first (words in Java, blank lines
in C#), so that some thousand characters may take minutes; a block that would take longer is shown as it is."""
LONG_RUN = re.compile(r"\s{200}|\S{2000}")
"""Of which one token alone may take minutes."""
LANGUAGES = {
    *("Bash", "Bash Session", "C", "C#", "C++", "CSS", "Clojure", "Common Lisp", "Dart", "Diff", "Docker", "Elixir"),
    *("Erlang", "Fortran", "Go", "GraphQL", "HTML", "Haskell", "INI", "JSON", "Java", "JavaScript", "Julia", "Kotlin"),
    *("Lua", "Makefile", "Markdown", "Matlab", "OCaml", "Objective-C", "PHP", "Perl", "PowerShell", "Protocol Buffer"),
    *("Python", "Python console session", "Ruby", "Rust", "S", "SCSS", "SQL", "Scala", "Scheme", "Swift", "TOML"),
    *("TSX", "TeX", "TypeScript", "VB.net", "XML", "YAML", "JSX", "reStructuredText"),
}
"""By Pygments' names: those that were tried for what their lexers make of hostile texts."""
LONGEST_FORMULA = 2_000
HIGHEST_HEADING = 3
"""Headings of a text begin here, below the page's own h1 and h2."""

MATHML = {
    *("math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "menclose"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts"),
    *("mtable", "mtr", "mtd", "mpadded", "mphantom"),
}
TAGS = MATHML | {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li", "pre", "div"),
    *("strong", "em", "s", "code", "span", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {
    "*": {"dir"},
    "a": {"href"},
    "ol": {"start"},
    "td": {"align"},
    "th": {"align"},
    "div": {"tabindex"},
    "math": {"display"},
    "mi": {"mathvariant"},
    "mo": {"stretchy", "fence", "separator", "form", "lspace", "rspace", "minsize", "maxsize", "movablelimits"},
    "mspace": {"width", "height", "depth", "linebreak"},
    "mfrac": {"linethickness"},
    "mtable": {"columnalign", "rowspacing", "columnspacing", "columnlines", "rowlines"},
    "mtd": {"columnalign"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "menclose": {"notation"},
    "mover": {"accent"},
    "munder": {"accentunder"},
    "mpadded": {"width", "height", "depth", "lspace", "voffset"},
}
CLASSES = {"span": set(STANDARD_TYPES.values()), "div": {"table-wrap", "math-block"}, "code": {"math-source"}}
TEXT_BLOCKS = {
    f"{name}_open"
    for name in ("paragraph", "heading", "list_item", "blockquote", "th", "td", "bullet_list", "ordered_list")
}


def render_text(text: str) -> SafeString:
    """The text as safe HTML. Kept by its digest, so that the same text is rendered once."""
    key = f"html:{VERSION}:{hashlib.sha256(text.encode(errors='replace')).hexdigest()}"
    near = caches["near"]
    html: str | None = near.get(key)
    if html is None:
        html = _clean(_render_markdown(text))
        near.set(key, html, KEEP_SECONDS)
    return mark_safe(html)  # the only place that vouches for it, right after the allow-list


def show_plainly(text: str) -> SafeString:
    return format_html('<pre dir="auto">{}</pre>', text)


def _render_markdown(text: str) -> str:
    if len(text) > LONGEST_MARKDOWN:
        return show_plainly(text)
    return str(MARKDOWN.render(text))


def _make_markdown() -> MarkdownIt:
    """CommonMark with tables and strikethrough. HTML in a text is shown as text; a line break is a line break."""
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 20})
    markdown.enable(["table", "strikethrough"]).disable("image")
    # `$5 and $10` is money: a formula touches its dollars and no digit follows it.
    markdown.use(dollarmath_plugin, allow_space=False, allow_digits=False, allow_labels=False, double_inline=True)
    markdown.use(amsmath_plugin)
    markdown.block.ruler.at("math_block", _read_dollar_block)
    markdown.block.ruler.at("amsmath", _read_amsmath, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    markdown.block.ruler.at("table", _read_table, {"alt": ["paragraph", "reference"]})
    markdown.inline.ruler.before("escape", "bracket_math", _read_bracket_math)
    markdown.core.ruler.push("fit_into_page", _fit_into_page)
    for name in ("math_inline", "math_inline_double", "math_block", "amsmath"):
        markdown.add_render_rule(name, _render_formula)
    for name in ("fence", "code_block"):
        markdown.add_render_rule(name, _render_code)
    markdown.add_render_rule("table_open", _open_table)
    markdown.add_render_rule("table_close", _close_table)
    return markdown


def _read_bracket_math(state: StateInline, silent: bool) -> bool:
    r"""\( … \) and \[ … \], which markdown would otherwise read as escaped brackets."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in ("\\(", "\\["):
        return False
    end = state.src.find("\\)" if opening == "\\(" else "\\]", state.pos + 2, state.pos + 2 + LONGEST_FORMULA)
    content = state.src[state.pos + 2 : end].strip() if end > 0 else ""
    if not content:
        return False
    if not silent:
        token = state.push("math_inline" if opening == "\\(" else "math_inline_double", "math", 0)
        token.content = content
    state.pos = end + 2
    return True


def _read_dollar_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """$$ … $$. Every opening would walk to the end of the text; it walks to the line that closes it, if any does."""
    closing = _next_line(state, "$$", start + 1)
    return DOLLAR_BLOCK(state, start, min(end, start + 1 if closing is None else closing + 1), silent)


def _read_amsmath(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""\begin{align} … \end{align}; as above."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if not first.startswith("\\begin{"):
        return False
    closing = _next_line(state, "\\end" + first[6 : first.find("}") + 1], start)
    return closing is not None and amsmath_block(state, start, min(end, closing + 1), silent)


def _read_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A table of as many cells as are left. Rows of one character would be filled up to the width of the head: 5 kB
    would become megabytes."""
    if start + 2 > end:
        return False
    columns = state.src[state.bMarks[start + 1] : state.eMarks[start + 1]].strip("| \t>").count("|") + 1
    blank = _next_line(state, "", start)
    left = state.env.get("cells", MOST_CELLS)
    if columns * (min(end, end if blank is None else blank) - start) > left or not table(state, start, end, silent):
        return False
    if not silent:
        state.env["cells"] = left - columns * (state.line - start)
    return True


def _next_line(state: StateBlock, closing: str, start: int) -> int | None:
    """The first line from start on that ends with `closing`, or that is blank for "". A text's lines are looked
    through once for each."""
    if closing not in state.env:
        lines = [
            state.src[before:after].rstrip() for before, after in zip([0, *state.eMarks], state.eMarks, strict=False)
        ]
        state.env[closing] = [at for at, line in enumerate(lines) if (line.endswith(closing) if closing else not line)]
    found: list[int] = state.env[closing]
    place = bisect_left(found, start)
    return found[place] if place < len(found) else None


def _fit_into_page(state: StateCore) -> None:
    """Every block finds its own direction, and headings nest under the page's without leaving out a level."""
    open_levels: list[int] = []
    for token in state.tokens:
        if token.type in TEXT_BLOCKS:
            token.attrSet("dir", "auto")
        if token.type in ("th_open", "td_open") and (style := token.attrs.pop("style", "")):
            token.attrSet("align", str(style).removeprefix("text-align:"))
        if token.type == "heading_open":
            level = int(token.tag[1])
            while open_levels and open_levels[-1] >= level:
                open_levels.pop()
            open_levels.append(level)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(HIGHEST_HEADING + len(open_levels) - 1, 6)}"


def _render_formula(_self: RendererHTML, tokens: Sequence[Token], place: int, _options: Any, _env: Any) -> str:
    token = tokens[place]
    display = token.type != "math_inline"
    mathml = _to_mathml(token.content.strip(), display=display)
    return f'<div class="math-block" tabindex="0">{mathml}</div>' if token.block else mathml


def _to_mathml(latex: str, *, display: bool) -> str:
    """The formula, or its source where the converter does not know it."""
    source = f'<code class="math-source" dir="ltr">{escapeHtml(latex)}</code>'
    if len(latex) > LONGEST_FORMULA:
        return source
    # The converter copies what stands in \text unescaped: an angle bracket never reaches it as such.
    careful = latex.replace("<", r"\lt ").replace(">", r"\gt ")
    try:
        return str(latex_to_mathml(careful, display="block" if display else "inline"))
    except Exception:  # many kinds, none documented: a broken formula is shown as it was written
        return source


def _render_code(
    _self: RendererHTML, tokens: Sequence[Token], place: int, _options: Any, env: MutableMapping[str, Any]
) -> str:
    token = tokens[place]
    name = token.info.strip().split(maxsplit=1)[0].lower() if token.info.strip() else ""
    before = thread_time()
    left = env.get("highlight_seconds", HIGHLIGHT_SECONDS)
    parts = _read_code(token.content, language=name, until=before + left)
    env["highlight_seconds"] = left - (thread_time() - before)
    code = escapeHtml(token.content) if parts is None else str(write_tokens(parts, CODE))
    return f'<pre dir="ltr"><code>{code}</code></pre>'


def _read_code(code: str, *, language: str, until: float) -> list[tuple[Any, str]] | None:
    """The code's tokens, or None where it is not highlighted."""
    if not language or len(code) > LONGEST_CODE or LONG_RUN.search(code):
        return None
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return None
    if lexer.name not in LANGUAGES:
        return None
    parts = []
    for part in lexer.get_tokens(code):
        if thread_time() > until:
            return None
        parts.append(part)
    return parts


def _open_table(self: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    return '<div class="table-wrap" tabindex="0">' + self.renderToken(tokens, place, options, env)


def _close_table(self: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    return self.renderToken(tokens, place, options, env) + "</div>"


def _clean(html: str) -> str:
    return nh3.clean(
        html,
        tags=TAGS,
        attributes=ATTRIBUTES,
        allowed_classes=CLASSES,
        clean_content_tags={"script", "style"},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


CODE = HtmlFormatter(nowrap=True)
DOLLAR_BLOCK = math_block_dollar(allow_labels=False, allow_blank_lines=True)
MARKDOWN = _make_markdown()
