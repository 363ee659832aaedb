"""Rows in every format become the conversations that they say, or are refused with what to do."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import annotation.formats
from annotation.formats.detection import FORMATS, detect, parse_rows
from annotation.formats.messages import split_shared_text
from annotation.formats.types import (
    BadRow,
    Choice,
    Message,
    Parsed,
    ParsedConversation,
    ParsedVote,
    Refused,
    Row,
    UnreadableSource,
    judgements_from_scores,
)


def parse(*rows: dict[str, Any]) -> list[Parsed]:
    return list(parse_rows(Row(line, fields) for line, fields in enumerate(rows, start=1))[1])


def parse_one(fields: dict[str, Any]) -> ParsedConversation:
    (conversation,) = parse(fields)
    assert isinstance(conversation, ParsedConversation), conversation
    return conversation


def texts(conversation: ParsedConversation) -> tuple[list[str], list[list[str]]]:
    return (
        [message.content for message in conversation.prompt],
        [[message.content for message in response.messages] for response in conversation.responses],
    )


def reason(fields: dict[str, Any]) -> str:
    (bad,) = parse(fields)
    assert isinstance(bad, BadRow), bad
    return bad.reason


USER = {"role": "user", "content": "What colour is the sky?"}
BLUE = {"role": "assistant", "content": "It is blue."}
GREEN = {"role": "assistant", "content": "It is green."}


# TRL preference rows


def test_a_standard_row_with_its_prompt() -> None:
    conversation = parse_one({"prompt": "The sky is", "chosen": " blue.", "rejected": " green."})
    assert texts(conversation) == (["The sky is"], [[" blue."], [" green."]])
    assert [message.role for message in conversation.prompt] == ["user"]
    (judgement,) = conversation.judgements
    assert (judgement.first, judgement.second, judgement.choice) == (0, 1, Choice.FIRST)


def test_a_standard_row_whose_prompt_is_shared() -> None:
    conversation = parse_one({"chosen": "The sky is blue.", "rejected": "The sky is green."})
    assert texts(conversation) == (["The sky is"], [["blue."], ["green."]])


def test_a_conversational_row_with_its_prompt() -> None:
    conversation = parse_one({"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]})
    assert texts(conversation) == ([USER["content"]], [[BLUE["content"]], [GREEN["content"]]])


def test_a_conversational_row_whose_prompt_is_shared() -> None:
    system = {"role": "system", "content": "Be brief."}
    conversation = parse_one({"chosen": [system, USER, BLUE], "rejected": [system, USER, GREEN]})
    assert texts(conversation) == (["Be brief.", USER["content"]], [[BLUE["content"]], [GREEN["content"]]])


def test_the_shared_prompt_ends_with_the_user_even_where_more_is_shared() -> None:
    more = {"role": "user", "content": "Sure?"}
    conversation = parse_one({"chosen": [USER, BLUE], "rejected": [USER, BLUE, more, GREEN]})
    assert texts(conversation) == (
        [USER["content"]],
        [[BLUE["content"]], [BLUE["content"], "Sure?", GREEN["content"]]],
    )


def test_a_prompt_that_the_dialogues_repeat_is_taken_off_them() -> None:
    conversation = parse_one({"prompt": USER["content"], "chosen": [USER, BLUE], "rejected": [USER, GREEN]})
    assert texts(conversation) == ([USER["content"]], [[BLUE["content"]], [GREEN["content"]]])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("The sky is blue", "The sky is black", ("The sky is", "blue", "black")),  # not "The sky is bl"
        ("The sky is", "The sky is blue", ("The sky", "is", "is blue")),  # something is left of both
        ("今天天气好", "今天天气坏", ("今天天气", "好", "坏")),  # no spaces to cut at
    ],
)
def test_the_shared_beginning_is_cut_where_a_word_ends(first: str, second: str, expected: tuple[str, ...]) -> None:
    assert split_shared_text(first, second) == expected


words = st.lists(st.sampled_from(["sky", "blue", "is", "a", "好", "é."]), min_size=1, max_size=6).map(" ".join)


@given(prompt=words, one=words, other=words)
def test_a_shared_beginning_and_its_rests_give_the_texts_again(prompt: str, one: str, other: str) -> None:
    first, second = f"{prompt} {one}", f"{prompt} {other}"
    try:
        shared, left, right = split_shared_text(first, second)
    except Refused:
        return
    assert [f"{shared} {left}".split(), f"{shared} {right}".split()] == [first.split(), second.split()] or (
        [shared + left, shared + right] == [first, second]
    )


def test_texts_without_a_shared_beginning_are_refused() -> None:
    assert "add a prompt" in reason({"chosen": "Blue.", "rejected": "Green."})


PARIS = {"chosen": "The capital of France is Paris.", "rejected": "The capital is Lyon."}


@pytest.mark.parametrize("name", ["question", "instruction", "input", "query"])
def test_a_prompt_of_another_name_is_the_prompt(name: str) -> None:
    found = parse_one({name: "What is the capital?", "context": "", "history": None, **PARIS})
    assert texts(found) == (["What is the capital?"], [[PARIS["chosen"]], [PARIS["rejected"]]])


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": "Answer.", "input": "What is the capital?"},
        {"question": "What is the capital?", "context": "France has a capital."},
        {"history": ["What is the capital?"]},
        {"system": "You know every city."},
    ],
)
def test_what_may_be_the_prompt_is_never_left_out(fields: dict[str, Any]) -> None:
    told = reason({**fields, **PARIS})
    assert all(name in told for name in fields)
    assert "one field, prompt" in told


def test_a_system_text_comes_before_the_prompt() -> None:
    system = {"system": "You are terse."}
    asked = [Message("system", "You are terse."), Message("user", "What is the capital?")]
    rows = [
        {"prompt": "What is the capital?", **PARIS},
        {"question": "What is the capital?", **PARIS},
        {"prompt": "What is the capital?", "responses": ["Paris", "Lyon"]},
        {"prompt": [{"role": "system", "content": "You are terse."}, *turns("What is the capital?")], **PARIS},
        {"chosen": turns("What is the capital?", "Paris"), "rejected": turns("What is the capital?", "Lyon")},
        {"chosen": "\n\nHuman: What is the capital?\n\nAssistant: Paris",
         "rejected": "\n\nHuman: What is the capital?\n\nAssistant: Lyon"},
    ]  # fmt: skip
    assert [list(parse_one({**row, **system}).prompt) for row in rows] == [asked] * len(rows)
    assert [list(parse_one({**row, "system": " "}).prompt) for row in rows[:3]] == [asked[1:]] * 3
    assert "another system message" in reason({**rows[3], "system": "You are wordy."})
    assert "system is a number" in reason({**rows[0], "system": 3})


def test_a_prompt_is_taken_off_dialogues_with_and_without_its_system_text() -> None:
    told = {"role": "system", "content": "You are terse."}
    row = {
        "system": "You are terse.",
        "prompt": "What is the capital?",
        "chosen": [told, *turns("What is the capital?", "Paris")],
        "rejected": turns("What is the capital?", "Lyon"),
    }
    assert texts(parse_one(row)) == (["You are terse.", "What is the capital?"], [["Paris"], ["Lyon"]])


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant"), contents, strict=False)]


def test_equal_responses_are_refused() -> None:
    assert "nothing to compare" in reason({"prompt": "a", "chosen": "b", "rejected": "b"})


def test_a_prompt_that_ends_with_the_assistant_is_refused() -> None:
    assert "must end with the user's" in reason({"prompt": [USER, BLUE], "chosen": "b", "rejected": "c"})


def test_pictures_are_refused() -> None:
    picture = {"role": "user", "content": [{"type": "image", "url": "x.png"}]}
    assert "no text" in reason({"prompt": [picture], "chosen": "b", "rejected": "c"})


def test_content_in_parts_is_joined() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}
    assert texts(parse_one({"prompt": [parts], "chosen": "b", "rejected": "c"}))[0] == ["One.\n\nTwo."]


# HH-RLHF


def test_flat_dialogues_are_split_at_their_last_shared_question() -> None:
    head = "\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: Any news?\n\nAssistant:"
    conversation = parse_one({"chosen": f"{head} None.", "rejected": f"{head} Plenty:\n\n1. Rain\n\n2. Sun"})
    assert texts(conversation) == (["Hello", "Hi.", "Any news?"], [["None."], ["Plenty:\n\n1. Rain\n\n2. Sun"]])
    assert [message.role for message in conversation.prompt] == ["user", "assistant", "user"]


def test_neighbouring_turns_of_one_speaker_are_one_message() -> None:
    chosen = "\n\nHuman: Hello\n\nAssistant: Hi.\n\nAssistant:"
    conversation = parse_one({"chosen": chosen, "rejected": "\n\nHuman: Hello\n\nAssistant: Go away."})
    assert texts(conversation) == (["Hello"], [["Hi."], ["Go away."]])


def test_an_empty_turn_is_refused_by_its_number() -> None:
    chosen = "\n\nHuman: Hello\n\nAssistant: "
    assert reason({"chosen": chosen, "rejected": "\n\nHuman: Hello\n\nAssistant: Hi."}).startswith(
        "turn 2 of chosen is empty"
    )


# A prompt with responses


def test_every_pair_of_a_quality_is_a_judgement() -> None:
    conversation = parse_one(
        {"prompt": "Hi", "responses": ["a", "b", "c"], "quality": [1, 3, 1], "category": "chat", "judge": "Ann"}
    )
    found = [(each.first, each.second, each.choice, each.margin, each.judge) for each in conversation.judgements]
    assert found == [
        (0, 1, Choice.SECOND, 2, "Ann"),
        (0, 2, Choice.TIE, 0, "Ann"),
        (1, 2, Choice.FIRST, 2, "Ann"),
    ]
    assert conversation.category == "chat"


def test_of_ranks_the_smallest_is_best_and_null_was_not_judged() -> None:
    conversation = parse_one({"prompt": "Hi", "responses": ["a", "b", "c"], "ranks": [1, None, 0]})
    (judgement,) = conversation.judgements
    assert (judgement.first, judgement.second, judgement.choice) == (0, 2, Choice.SECOND)


def test_responses_may_be_dialogues_with_origins() -> None:
    conversation = parse_one(
        {"prompt": [USER], "responses": [[BLUE], "It is grey."], "origins": ["model-a", None], "id": 7}
    )
    assert [response.origin for response in conversation.responses] == ["model-a", ""]
    assert conversation.external_id == "7"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"responses": "a"}, "must be a list"),
        ({"responses": ["a"]}, "nothing to compare"),
        ({"responses": ["a", " "]}, "response 2 is empty"),
        ({"responses": ["a", 5]}, "response 2 is a number"),
        ({"origins": ["x"]}, "one entry for each of the 2"),
        ({"ranks": [0, "1"]}, "must hold numbers"),
        ({"quality": [0, float("nan")]}, "NaN"),
        ({"quality": [0, float("inf")]}, "can be compared"),
        ({"quality": [0, int("9" * 310)]}, "can be compared"),
        ({"ranks": [-float("inf"), 0]}, "can be compared"),
        ({"prompt": None}, "the prompt is missing"),
        ({"prompt": []}, "empty list"),
        ({"category": "c" * 65}, "more than 64"),
        ({"category": ["c"]}, "must be a short text"),
        ({"responses": ["a", "b\0"]}, "NUL"),
        ({"responses": ["a", "\ud800"]}, "surrogate"),
        ({"responses": ["a", "b" * 100_001]}, "100,001 characters"),
        ({"responses": [str(number) for number in range(33)]}, "more than 32"),
        ({"prompt": [{"role": "robot", "content": "x"}]}, "role that is none of"),
        ({"prompt": ["x"]}, "without a role"),
    ],
)
def test_a_bad_row_says_what_to_do(change: dict[str, Any], part: str) -> None:
    assert part in reason({"prompt": "Hi", "responses": ["a", "b"], **change})


# MT-Bench


def answer(model: str, *, question: int = 81, text: str | None = None) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": f"Question {question}"},
        {"role": "assistant", "content": text or f"Answer of {model}"},
        {"role": "user", "content": "Again?"},
        {"role": "assistant", "content": f"Second answer of {model}"},
    ]
    return {"question_id": question, "model": model, "category": "writing", "messages": messages}


def test_a_question_gives_a_conversation_for_each_turn() -> None:
    first, second = parse(answer("x"), answer("y"))
    assert isinstance(first, ParsedConversation)
    assert isinstance(second, ParsedConversation)
    assert texts(first) == (["Question 81"], [["Answer of x"], ["Answer of y"]])
    assert texts(second)[1][0] == ["Answer of x", "Again?", "Second answer of x"]
    assert [first.external_id, second.external_id] == ["mt-bench/81/1", "mt-bench/81/2"]
    assert [response.origin for response in second.responses] == ["x", "y"]


def test_questions_follow_each_other() -> None:
    found = parse(answer("x"), answer("y"), answer("x", question=82), answer("y", question=82))
    assert [item.external_id for item in found if isinstance(item, ParsedConversation)] == [
        "mt-bench/81/1",
        "mt-bench/81/2",
        "mt-bench/82/1",
        "mt-bench/82/2",
    ]


@pytest.mark.parametrize(
    ("rows", "line", "part"),
    [
        ([answer("x"), answer("y"), answer("y")], 3, "answered question 81 already"),
        ([answer("x"), answer("y"), answer("x", question=82), answer("y", question=82), answer("z")], 5, "sort the"),
        ([answer("x"), answer("y", text=" "), answer("z")], 2, "is empty"),
        ([answer("x"), {**answer("y"), "messages": answer("y", question=9)["messages"]}, answer("z")], 2, "worded"),
        ([answer("x"), {**answer("y"), "messages": answer("y")["messages"][:3]}, answer("z")], 2, "must alternate"),
        ([answer("x"), {**answer("y"), "model": None}, answer("z")], 2, "must both be given"),
    ],
)  # fmt: skip
def test_a_bad_answer_leaves_the_others_in_place(rows: list[dict[str, Any]], line: int, part: str) -> None:
    found = parse(*rows)
    (bad,) = [item for item in found if isinstance(item, BadRow)]
    assert bad.line == line
    assert part in bad.reason
    assert "mt-bench/81/2" in [item.external_id for item in found if isinstance(item, ParsedConversation)]


def test_a_question_with_one_answer_is_refused_for_each_turn() -> None:
    assert [item.reason.split(":")[0] for item in parse(answer("x")) if isinstance(item, BadRow)] == [
        "question 81, turn 1",
        "question 81, turn 2",
    ]


VOTE = {"judge": "expert_1", "question_id": 81, "turn": 2, "model_a": "x", "model_b": "y", "winner": "model_b"}


@pytest.mark.parametrize(
    ("winner", "choice"),
    [("model_a", Choice.FIRST), ("model_b", Choice.SECOND), ("tie", Choice.TIE), ("tie (bothbad)", Choice.TIE)],
)
def test_a_vote_names_its_conversation_and_judge(winner: str, choice: Choice) -> None:
    assert parse({**VOTE, "winner": winner}) == [ParsedVote(1, "mt-bench/81/2", "x", "y", choice, "expert_1", turn=2)]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"winner": "model_c"}, "winner must be"),
        ({"turn": "2"}, "whole number"),
        ({"turn": True}, "whole number"),
        ({"judge": ""}, "judge is missing"),
        ({"model_b": "x"}, "the same"),
    ],
)
def test_a_bad_vote_is_refused(change: dict[str, Any], part: str) -> None:
    assert part in reason({**VOTE, **change})


# OpenAssistant


def reply(text: str, *replies: dict[str, Any], rank: int | None = None, role: str = "assistant") -> dict[str, Any]:
    return {"message_id": f"id-{text}", "text": text, "role": role, "rank": rank, "replies": list(replies)}


def tree(*replies: dict[str, Any]) -> dict[str, Any]:
    return {"message_tree_id": "t", "prompt": reply("Why?", *replies, role="prompter")}


def test_ranked_siblings_are_responses_with_judgements() -> None:
    conversation = parse_one(tree(reply("a", rank=1), reply("b", rank=0), reply("c")))
    assert texts(conversation) == (["Why?"], [["a"], ["b"], ["c"]])
    assert [(each.first, each.second, each.choice) for each in conversation.judgements] == [(0, 1, Choice.SECOND)]
    assert conversation.external_id == "id-Why?"


def test_deeper_siblings_have_the_whole_way_as_their_prompt() -> None:
    deeper = reply("And?", reply("c", rank=0), reply("d", rank=1), role="prompter")
    top, below = parse(tree(reply("a", deeper, rank=0), reply("b", rank=1)))
    assert isinstance(top, ParsedConversation)
    assert isinstance(below, ParsedConversation)
    assert texts(below) == (["Why?", "a", "And?"], [["c"], ["d"]])


def test_a_bad_reply_leaves_the_rest_of_its_tree_in_place() -> None:
    deeper = reply("And?", reply(" ", rank=0), reply("d", rank=1), role="prompter")
    found = parse(tree(reply("a", deeper, rank=0), reply("b", rank=1)))
    assert [type(item) for item in found] == [ParsedConversation, BadRow, BadRow]


@pytest.mark.parametrize("rank", [float("nan"), float("inf"), int("9" * 310), True, "first"])
def test_a_rank_that_is_no_number_is_refused(rank: Any) -> None:
    bad, good = parse(tree(reply("a", rank=rank), reply("b", rank=1)), tree(reply("a", rank=0), reply("b", rank=1)))
    assert isinstance(bad, BadRow)
    assert "the rank of message" in bad.reason
    assert isinstance(good, ParsedConversation)


def test_deleted_replies_are_not_shown() -> None:
    gone = {**reply("gone", rank=0), "deleted": True}
    assert texts(parse_one(tree(reply("a"), gone, reply("b"))))[1] == [["a"], ["b"]]


def test_a_tree_without_a_choice_is_refused() -> None:
    assert "nothing to compare" in reason(tree(reply("a")))


# Detection, digests, the import law


def test_every_format_is_told_by_its_fields() -> None:
    rows: dict[str, dict[str, Any]] = {
        "mtbench-votes": VOTE,
        "mtbench-conversations": answer("x"),
        "openassistant": tree(),
        "responses": {"prompt": "", "responses": []},
        "hh": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
        "preference": {"chosen": "a", "rejected": "b"},
    }
    found = {name: detect(fields) for name, fields in rows.items()}
    assert {name: each.name if each else None for name, each in found.items()} == {name: name for name in rows}
    assert {each.name for each in FORMATS} == set(rows)


def test_a_bad_first_row_does_not_hide_the_format() -> None:
    rows = [BadRow(1, "not JSON"), Row(2, {"other": 1}), Row(3, {"prompt": "a", "chosen": "b", "rejected": "c"})]
    found, parsed = parse_rows(rows)
    assert found.name == "preference"
    assert [type(item) for item in parsed] == [BadRow, BadRow, ParsedConversation]


@pytest.mark.parametrize("rows", [[], [Row(1, {"question": "a", "answer": "b"})], [BadRow(1, "not JSON")]])
def test_an_unknown_format_says_what_can_be_read(rows: list[Row | BadRow]) -> None:
    with pytest.raises(UnreadableSource, match=r"TRL|no row"):
        parse_rows(rows)


def test_an_unknown_formats_fields_are_named_in_what_a_database_can_store() -> None:
    with pytest.raises(UnreadableSource) as told:
        parse_rows([Row(1, {"a\0b": 1, "c\ud800": 2, "long" * 1000: 3})])
    assert "\0" not in str(told.value)
    assert r"'a\x00b', 'c\ud800', 'longlong" in str(told.value)
    assert len(str(told.value).encode()) < 2000


def test_a_digest_does_not_depend_on_the_order_of_responses() -> None:
    one = parse_one({"prompt": "Hi", "responses": ["a", "b"], "quality": [0, 1]})
    other = parse_one({"prompt": "Hi", "chosen": "b", "rejected": "a", "judge": "Ann", "id": "x"})
    assert one.digest == other.digest


@pytest.mark.parametrize(
    "change",
    [{"prompt": "Ho"}, {"responses": ["a", "c"]}, {"responses": ["a", "b", "c"]}, {"category": "x"},
     {"prompt": [{"role": "system", "content": "Hi"}, {"role": "user", "content": "Hi"}]}],
)  # fmt: skip
def test_a_digest_changes_with_what_is_compared(change: dict[str, Any]) -> None:
    row: dict[str, Any] = {"prompt": "Hi", "responses": ["a", "b"]}
    assert parse_one(row).digest != parse_one({**row, **change}).digest


def test_a_digest_tells_two_messages_from_one_that_joins_them() -> None:
    two = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    one = [{"role": "user", "content": 'a"],["user","b'}]
    rows = [parse_one({"prompt": prompt, "responses": ["x", "y"]}) for prompt in (one, two)]
    assert rows[0].digest != rows[1].digest


def test_judgements_of_scores_by_hand() -> None:
    assert judgements_from_scores([None, None]) == ()
    (only,) = judgements_from_scores([0.5, 0.5])
    assert (only.choice, only.margin) == (Choice.TIE, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ROWS_OF_ALL_FORMATS: list[dict[str, Any]] = [
    VOTE,
    answer("x"),
    tree(reply("a", rank=0), reply("b", rank=1)),
    {"prompt": "a", "responses": ["b", "c"], "ranks": [0, 1], "quality": None, "origins": ["x", "y"]},
    {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN], "category": "c", "id": 1},
    {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
]


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw of a text takes a second
@given(row=st.sampled_from(ROWS_OF_ALL_FORMATS), data=st.data())
def test_a_spoilt_row_gives_a_reason_and_never_an_error(row: dict[str, Any], data: st.DataObject) -> None:
    spoilt = {**row, data.draw(st.sampled_from(sorted(row))): data.draw(json_values)}
    try:
        found = parse(spoilt, row)
    except UnreadableSource:
        return
    for item in found:
        if isinstance(item, BadRow):
            assert item.reason
        elif isinstance(item, ParsedConversation):
            assert len({response.messages for response in item.responses}) > 1
        else:
            assert item.judge


def test_formats_know_no_framework_and_no_app() -> None:
    for path in Path(annotation.formats.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name is not None
                assert not name.startswith("django"), path
                assert not name.startswith("annotation.") or name.startswith("annotation.formats"), path


def test_messages_are_kept_word_for_word() -> None:
    text = "  Two spaces,\ttab,\n\n\nthree lines — ünïcödé 🦜 and `code`  "
    conversation = parse_one(json.loads(json.dumps({"prompt": text, "responses": [text + "a", text + "b"]})))
    assert conversation.prompt == (Message("user", text),)
    assert conversation.responses[0].messages == (Message("assistant", text + "a"),)
