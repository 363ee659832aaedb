"""Rows of one chunk: conversations with their responses, comparisons and recorded judgements, each added once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from annotation.formats.types import (
    BadRow,
    Choice,
    Message,
    ParsedConversation,
    ParsedJudgement,
    ParsedResponse,
    ParsedVote,
    canonical_messages,
    sha256_of,
)
from annotation.languages import code_of
from annotation.models import Campaign, Comparison, Conversation, RecordedJudgement, Response

PAIRS = 45
"""All pairs of up to ten responses become comparisons; of more responses only neighbours, in a ring."""
AUTHOR_CHARACTERS = 255
OUTCOMES = {Choice.FIRST: 1.0, Choice.SECOND: 0.0, Choice.TIE: 0.5}


@dataclass(frozen=True, slots=True)
class Brought:
    """What a chunk added; known conversations were there before."""

    conversations: int = 0
    known: int = 0
    comparisons: int = 0
    judgements: int = 0


def add_conversations(campaign: Campaign, parsed: Sequence[ParsedConversation], *, source: str) -> Brought:
    """Adds what the campaign does not have yet, told by digest. The caller holds a transaction.

    Conversations, responses and comparisons are inserted past conflicts, so two imports of one file at the same time
    add it once; a conversation counts as added by the import whose time of creation it bears.
    """
    if not parsed:
        return Brought()
    # In one order, so that two imports with conversations in common never wait for each other.
    by_digest = dict(sorted({item.digest: item for item in parsed}.items()))
    ids, added = insert_conversations(campaign, by_digest, source=source)
    insert_responses({ids[digest]: by_digest[digest] for digest in added})
    responses = response_ids(ids.values())
    comparisons = insert_comparisons(campaign, {ids[digest]: by_digest[digest] for digest in added}, responses)
    judged = [(ids[item.digest], item) for item in parsed if item.judgements]
    return Brought(
        conversations=len(added),
        known=len(parsed) - len(added),
        comparisons=comparisons,
        judgements=insert_judgements(judgements_of(judged, responses)),
    )


def insert_conversations(
    campaign: Campaign, by_digest: dict[str, ParsedConversation], *, source: str
) -> tuple[dict[str, int], set[str]]:
    """The ids of all, and the digests of those that were not there."""
    there = Conversation.objects.filter(campaign=campaign, digest__in=by_digest)
    known = set(there.values_list("digest", flat=True))
    made = Conversation.objects.bulk_create(
        [
            Conversation(
                campaign=campaign,
                digest=digest,
                messages=as_json(item.prompt),
                category=item.category,
                language=code_of(item.language),
                source=item.source or source,
                external_id=item.external_id,
                is_held_out=is_held_out(item.prompt, share=campaign.holdout_share),
            )
            for digest, item in by_digest.items()
            if digest not in known
        ],
        ignore_conflicts=True,
    )
    times = {conversation.digest: conversation.created_at for conversation in made}
    ids, added = {}, set()
    for pk, digest, created_at in there.values_list("id", "digest", "created_at"):
        ids[digest] = pk
        if times.get(digest) == created_at:
            added.add(digest)
    return ids, added


def is_held_out(prompt: Sequence[Message], *, share: float) -> bool:
    """By a hash of the prompt, so that every conversation that begins with one prompt falls on the same side: other
    responses to a prompt would tell about those that are held out."""
    return int(sha256_of(["held out", canonical_messages(prompt)])[:12], 16) < share * 16**12


def insert_responses(added: dict[int, ParsedConversation]) -> None:
    """In the order of their digests: which one a file named first (the chosen one, as a rule) leaves no trace.
    Responses that say the same word for word are one, with the names of all its authors."""
    Response.objects.bulk_create(
        [
            Response(conversation_id=pk, digest=digest, messages=as_json(same[0].messages), author=joined_authors(same))
            for pk, item in added.items()
            for digest, same in sorted(responses_by_digest(item).items())
        ],
        ignore_conflicts=True,
    )


def responses_by_digest(item: ParsedConversation) -> dict[str, list[ParsedResponse]]:
    grouped = defaultdict(list)
    for response in item.responses:
        grouped[response.digest].append(response)
    return grouped


def joined_authors(same: Iterable[ParsedResponse]) -> str:
    names = [response.origin for response in same if response.origin]
    while len(", ".join(names)) > AUTHOR_CHARACTERS:
        names.pop()
    return ", ".join(names)


def response_ids(conversations: Iterable[int]) -> dict[int, dict[str, int]]:
    """Conversation id -> digest of a response -> its id, smallest id first."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    rows = Response.objects.filter(conversation__in=list(conversations)).order_by("id")
    for pk, conversation, digest in rows.values_list("id", "conversation_id", "digest"):
        found[conversation][digest] = pk
    return found


def insert_comparisons(
    campaign: Campaign, added: dict[int, ParsedConversation], responses: dict[int, dict[str, int]]
) -> int:
    made = Comparison.objects.bulk_create(
        [
            Comparison(
                campaign=campaign,
                conversation_id=pk,
                a_id=a,
                b_id=b,
                category=item.category,
                is_held_out=is_held_out(item.prompt, share=campaign.holdout_share),
            )
            for pk, item in added.items()
            for a, b in pairs_of(list(responses[pk].values()))
        ],
        ignore_conflicts=True,
    )
    return len(made)


def pairs_of(ordered: Sequence[int]) -> list[tuple[int, int]]:
    """All pairs (a < b) of few responses; a ring through many, in the order given (which digests have shuffled)."""
    pairs = list(combinations(ordered, 2))
    if len(pairs) > PAIRS:
        pairs = list(zip(ordered, [*ordered[1:], ordered[0]], strict=True))
    return [(min(pair), max(pair)) for pair in pairs]


def judgements_of(
    judged: Iterable[tuple[int, ParsedConversation]], responses: dict[int, dict[str, int]]
) -> list[RecordedJudgement]:
    """Those about pairs that are comparisons; of a long ranking the rest follows from its neighbours."""
    pending = []
    for pk, item in judged:
        ids = [responses[pk][response.digest] for response in item.responses]
        pending += [(ids[judgement.first], ids[judgement.second], judgement) for judgement in item.judgements]
    comparisons = comparison_ids({(min(first, second), max(first, second)) for first, second, _ in pending})
    return [
        recorded(comparisons[min(first, second), max(first, second)], judgement, a_first=first < second)
        for first, second, judgement in pending
        if (min(first, second), max(first, second)) in comparisons
    ]


def comparison_ids(pairs: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    rows = Comparison.objects.filter(a__in={a for a, _ in pairs}, b__in={b for _, b in pairs})
    return {(a, b): pk for pk, a, b in rows.values_list("id", "a_id", "b_id") if (a, b) in pairs}


def recorded(comparison: int, judgement: ParsedJudgement | ParsedVote, *, a_first: bool) -> RecordedJudgement:
    outcome = OUTCOMES[judgement.choice]
    return RecordedJudgement(
        comparison_id=comparison,
        judge=judgement.judge,
        outcome=outcome if a_first else 1 - outcome,
        margin=judgement.margin if isinstance(judgement, ParsedJudgement) else None,
    )


def insert_judgements(judgements: Sequence[RecordedJudgement]) -> int:
    """How many were new: a judge's first word on a comparison stands."""
    there = set(
        RecordedJudgement.objects.filter(comparison__in={item.comparison_id for item in judgements}).values_list(
            "comparison_id", "judge"
        )
    )
    fresh: dict[tuple[int, str], RecordedJudgement] = {}
    for item in judgements:
        key = (item.comparison_id, item.judge)
        if key not in there:
            fresh.setdefault(key, item)
    RecordedJudgement.objects.bulk_create([fresh[key] for key in sorted(fresh)], ignore_conflicts=True)
    return len(fresh)


def add_votes(campaign: Campaign, votes: Sequence[ParsedVote]) -> tuple[int, list[BadRow]]:
    """Votes as recorded judgements on the comparisons that other files brought: how many, and those without any."""
    if not votes:
        return 0, []
    authors = authors_by_external_id(campaign, {vote.external_id for vote in votes})
    found, refused = [], []
    for vote in votes:
        answers = authors.get(vote.external_id, {})
        first, second = answers.get(vote.first_origin), answers.get(vote.second_origin)
        if first is None or second is None:
            refused.append(BadRow(vote.line, missing(vote, known=bool(answers))))
        elif first == second:
            refused.append(
                BadRow(vote.line, "both models gave the same answer, word for word: there is nothing to judge")
            )
        else:
            found.append((first, second, vote))
    comparisons = comparison_ids({(min(first, second), max(first, second)) for first, second, _ in found})
    judgements = []
    for first, second, vote in found:
        comparison = comparisons.get((min(first, second), max(first, second)))
        if comparison is None:
            refused.append(BadRow(vote.line, "this pair is not among the comparisons of its conversation"))
        else:
            judgements.append(recorded(comparison, vote, a_first=first < second))
    return insert_judgements(judgements), refused


def authors_by_external_id(campaign: Campaign, names: set[str]) -> dict[str, dict[str, int]]:
    """External id -> author -> response id; of conversations with the same external id the newest speaks."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    rows = Response.objects.filter(conversation__campaign=campaign, conversation__external_id__in=names)
    for pk, author, name in rows.order_by("conversation_id", "id").values_list(
        "id", "author", "conversation__external_id"
    ):
        for one in author.split(", "):
            found[name][one] = pk
    return found


def missing(vote: ParsedVote, *, known: bool) -> str:
    if not known:
        return f"no conversation {vote.external_id} in this campaign: import the file of conversations first"
    pair = f"{vote.first_origin} or of {vote.second_origin}"
    return f"conversation {vote.external_id} has no answer of {pair}: import the row that has it first"


def as_json(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
