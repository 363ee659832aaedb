"""The published files that the formats were made for, where they are at hand."""

import os
from collections import Counter
from pathlib import Path

import pytest

from annotation.formats.containers import read_rows
from annotation.formats.detection import parse_rows
from annotation.formats.types import BadRow, Choice, Parsed, ParsedConversation, ParsedVote
from annotation.imports import SAMPLE, run_import, start_source_import
from annotation.models import Campaign, RecordedJudgement

DATA = Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def parse(path: Path) -> tuple[str, list[Parsed]]:
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand: set TUTELAGE_DATA to its folder")
    with path.open("rb") as file:
        found, parsed = parse_rows(read_rows(file))
        return found.name, list(parsed)


def kinds(parsed: list[Parsed]) -> dict[str, int]:
    return dict(Counter(type(item).__name__ for item in parsed))


def test_hh_rlhf() -> None:
    name, parsed = parse(DATA / "hh_harmless_test.jsonl.gz")
    assert name == "hh"
    assert kinds(parsed) == {"ParsedConversation": 2308, "BadRow": 4}
    assert [item.line for item in parsed if isinstance(item, BadRow)] == [87, 517, 926, 1104]


def test_mt_bench_conversations() -> None:
    name, parsed = parse(DATA / "mtbench_conversations.jsonl.gz")
    assert name == "mtbench-conversations"
    assert kinds(parsed) == {"ParsedConversation": 160, "BadRow": 1}
    assert len({item.category for item in parsed if isinstance(item, ParsedConversation)}) == 8


def test_mt_bench_votes() -> None:
    name, parsed = parse(DATA / "mtbench_votes.jsonl.gz")
    votes = [item for item in parsed if isinstance(item, ParsedVote)]
    assert (name, len(votes), len(parsed)) == ("mtbench-votes", 3355, 3355)
    assert len({vote.judge for vote in votes}) == 65
    assert Counter(vote.choice for vote in votes) == {Choice.FIRST: 1293, Choice.SECOND: 1282, Choice.TIE: 780}


@pytest.mark.django_db
def test_mt_bench_votes_find_their_comparisons(campaign: Campaign) -> None:
    """Left out: 24 about a missing or empty answer, 21 between equal answers, 4 a judge's second on the same texts."""
    for name in ("mtbench_conversations.jsonl.gz", "mtbench_votes.jsonl.gz"):
        if not (DATA / name).exists():
            pytest.skip(f"{name} is not at hand: set TUTELAGE_DATA to its folder")
        job = run_import(start_source_import(campaign=campaign, source=str(DATA / name)).pk)
    campaign.refresh_from_db()
    assert (campaign.conversation_count, campaign.comparison_count) == (160, 2323)
    assert (job.judgements_added, job.problem_count, job.rows_read) == (3306, 45, 3355)
    recorded = RecordedJudgement.objects.filter(comparison__campaign=campaign)
    assert recorded.values("judge").distinct().count() == 65


def test_openassistant() -> None:
    name, parsed = parse(DATA / "openassistant_en_trees.jsonl.gz")
    conversations = [item for item in parsed if isinstance(item, ParsedConversation)]
    assert (name, len(conversations), len(parsed)) == ("openassistant", 214, 214)
    assert sum(len(item.judgements) for item in conversations) == 754


def test_the_projects_own_sample() -> None:
    name, parsed = parse(SAMPLE)
    conversations = [item for item in parsed if isinstance(item, ParsedConversation)]
    assert (name, len(parsed)) == ("responses", len(conversations))
    assert len(conversations) >= 60
    assert {item.category for item in conversations} == {"coding", "writing", "reasoning", "advice", "facts", "safety"}
    assert min(Counter(item.category for item in conversations).values()) >= 10
    assert sum(len(item.judgements) for item in conversations) >= 180
    assert len({item.digest for item in conversations}) == len(conversations)
    assert any(len(item.prompt) > 1 for item in conversations)


def test_the_samples_quality_is_not_given_away_by_length() -> None:
    """The longer of two responses is the better one often, as in life, but far from always."""
    _, parsed = parse(SAMPLE)
    longer_won = []
    for item in parsed:
        assert isinstance(item, ParsedConversation)
        sizes = [len(response.messages[0].content) for response in item.responses]
        for judgement in item.judgements:
            if judgement.choice != Choice.TIE:
                is_longer = sizes[judgement.first] > sizes[judgement.second]
                longer_won.append(is_longer == (judgement.choice == Choice.FIRST))
    assert 0.5 < sum(longer_won) / len(longer_won) < 0.8
