"""Messages from what files hold (a text or a list of turns), and the prompt that two dialogues share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from annotation.formats.limits import MESSAGES, RESPONSES, checked_text, kind_of
from annotation.formats.types import Message, ParsedResponse, Refused

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
}
FIRST_CJK = "⺀"
"""From here on scripts are mostly written without spaces, so a word's edge cannot be found by them."""


def parse_prompt(value: object) -> tuple[Message, ...]:
    """A text (one user message) or a list of messages that ends with the user's; raises Refused."""
    messages = parse_turns(value, role="user", what="the prompt")
    if messages[-1].role not in ("user", "tool"):
        raise Refused(f"the prompt ends with a message of the {messages[-1].role}, and must end with the user's")
    return messages


def with_system(prompt: tuple[Message, ...], system: object) -> tuple[Message, ...]:
    """The prompt under what its row gives as `system`, if it gives any; raises Refused where it has another one."""
    if system is None or (isinstance(system, str) and not system.strip()):
        return prompt
    message = Message("system", checked_text(system, what="system"))
    if prompt[0].role != "system":
        return (message, *prompt)
    if prompt[0] != message:
        raise Refused("the prompt begins with another system message than `system` gives: keep one of them")
    return prompt


def parse_reply(value: object, *, what: str) -> tuple[Message, ...]:
    """A text (one assistant message) or a list of messages from the assistant's on; raises Refused."""
    return checked_reply(parse_turns(value, role="assistant", what=what), what=what)


def checked_reply(messages: tuple[Message, ...], *, what: str) -> tuple[Message, ...]:
    if not messages:
        raise Refused(f"{what} adds nothing to the prompt: give it an answer, or remove the row")
    if messages[0].role != "assistant" or messages[-1].role != "assistant":
        raise Refused(f"{what} must begin and end with a message of the assistant")
    return messages


def parse_turns(value: object, *, role: str, what: str) -> tuple[Message, ...]:
    if isinstance(value, list):
        return parse_messages(value, what=what)
    return (Message(role, checked_text(value, what=what)),)


def parse_messages(value: object, *, what: str) -> tuple[Message, ...]:
    """A list of {"role", "content"} objects; raises Refused."""
    if not isinstance(value, list):
        raise Refused(f"{what} is {kind_of(value)}, and must be a list of messages")
    if not value:
        raise Refused(f"{what} is an empty list: give it messages, or remove the row")
    if len(value) > MESSAGES:
        raise Refused(f"{what} has {len(value)} messages, more than {MESSAGES}: shorten it")
    return tuple(parse_message(item, what=f"message {number} of {what}") for number, item in enumerate(value, start=1))


def parse_message(value: object, *, what: str) -> Message:
    if not isinstance(value, dict) or "role" not in value:
        raise Refused(f'{what} is {kind_of(value)} without a role, and must be {{"role": …, "content": …}}')
    role = ROLES.get(str(value["role"]).lower())
    if role is None:
        raise Refused(f"{what} has a role that is none of {', '.join(sorted(set(ROLES.values())))}")
    return Message(role, checked_text(plain_content(value.get("content"), what=what), what=what))


def plain_content(content: Any, *, what: str) -> Any:
    """The text of a content that is given in parts, as multimodal chats do; raises Refused for pictures and sound."""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise Refused(f"{what} holds parts that are no text (pictures or sound), which cannot be compared here")
    return "\n\n".join(part["text"] for part in content)


def checked_responses(responses: Sequence[ParsedResponse]) -> tuple[ParsedResponse, ...]:
    """responses, of which at least two differ; raises Refused."""
    if len(responses) > RESPONSES:
        raise Refused(f"there are {len(responses)} responses, more than {RESPONSES}: split them over several rows")
    if len({response.messages for response in responses}) < 2:
        raise Refused("there are no two different responses, so there is nothing to compare: remove the row")
    return tuple(responses)


def split_shared_prompt(
    first: tuple[Message, ...], second: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """prompt, rest of first, rest of second: the longest shared beginning that ends with a user's message.

    Raises Refused when the dialogues share no user's message at their beginning.
    """
    shared = 0
    for length, (one, other) in enumerate(zip(first, second, strict=False), start=1):
        if one != other or length in (len(first), len(second)):
            break
        if one.role == "user":
            shared = length
    if not shared:
        raise Refused("chosen and rejected share no beginning that ends with the user's message: add a prompt")
    return first[:shared], first[shared:], second[shared:]


def split_shared_text(first: str, second: str) -> tuple[str, str, str]:
    """prompt, rest of first, rest of second of two plain texts: their shared beginning, cut where a word ends.

    TRL cuts at the first character that differs; a cut inside a word ("bl|ue", "bl|ack") would leave stumps to compare.
    Raises Refused when nothing is shared or nothing is left.
    """
    cut = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    while cut and (is_inside_word(first, cut) or is_inside_word(second, cut) or not (first[cut:] and second[cut:])):
        cut -= 1
    prompt, one, other = first[:cut].strip(), first[cut:].strip(), second[cut:].strip()
    if not prompt or not one or not other:
        raise Refused(
            "chosen and rejected share no beginning, so the prompt cannot be told from the answers: add a prompt"
        )
    return prompt, one, other


def is_inside_word(text: str, position: int) -> bool:
    around = text[position - 1 : position + 1]
    return len(around) == 2 and all(letter.isalnum() and letter < FIRST_CJK for letter in around)
