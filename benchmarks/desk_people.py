"""Two hundred signed-in teachers of one campaign for `desk_latency`, with queues that are filled between measurements.

Imported once the environment names the database.
"""

import uuid

import django

django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.db import connection  # noqa: E402

from annotation.models import (  # noqa: E402
    Campaign,
    Comparison,
    Conversation,
    Enrolment,
    GuidelineVersion,
    Membership,
    Offer,
    Pool,
    Response,
    Teacher,
    User,
)

TEACHERS = 200


class Desks:
    """One campaign with a thousand comparisons, and everybody who answers them."""

    def __init__(self, *, words: int) -> None:
        self.campaign = Campaign.objects.create(name="Helpful answers", state="open", budget=1_000_000)
        self.code = str(self.campaign.code)
        guidelines = GuidelineVersion.objects.create(campaign=self.campaign, version=1, text="Prefer what helps more.")
        pool = Pool.objects.create(name="The pool", pay_per_label="0.10")
        self.campaign.pools.add(pool)
        self.comparisons = self._make_comparisons(1000, words=words)
        self.members: list[Membership] = []
        self.sessions: list[str] = []
        for number in range(TEACHERS):
            user = User.objects.create(username=f"teacher{number}", password="!")
            teacher = Teacher.objects.create(user=user)
            self.members.append(Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1))
            Enrolment.objects.create(campaign=self.campaign, teacher=teacher, stage="working", read_version=guidelines)
            session = SessionStore()
            session[SESSION_KEY] = str(user.pk)
            session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            session.create()
            self.sessions.append(str(session.session_key))

    def _make_comparisons(self, count: int, *, words: int) -> list[Comparison]:
        conversations = Conversation.objects.bulk_create(
            Conversation(
                campaign=self.campaign,
                digest=f"{n:064x}",
                messages=[{"role": "user", "content": f"How do I reverse list number {n} in Python?"}],
            )
            for n in range(count)
        )
        responses = Response.objects.bulk_create(
            Response(
                conversation=conversation,
                digest=side * 64,
                messages=[{"role": "assistant", "content": f"**{side}** `numbers[::-1]`\n\n" + f"word{n} " * words}],
            )
            for n, conversation in enumerate(conversations)
            for side in "ab"
        )
        return Comparison.objects.bulk_create(
            Comparison(campaign=self.campaign, conversation=row, a=responses[2 * n], b=responses[2 * n + 1])
            for n, row in enumerate(conversations)
        )

    def queue(self, *, teachers: int, each: int) -> None:
        """So many offers on each queue, as the planner would have left them; the repeat arm has no slots to fill."""
        offers = [
            Offer(
                code=uuid.uuid4(),
                campaign=self.campaign,
                comparison=self.comparisons[(place * 7 + number) % len(self.comparisons)],
                teacher_id=member.teacher_id,
                membership=member,
                arm=Offer.Arm.REPEAT,
                rank=float(place),
                cost="0.1",
                b_first=place % 2 == 0,
            )
            for number, member in enumerate(self.members[:teachers])
            for place in range(min(each, len(self.comparisons)))
        ]
        Offer.objects.bulk_create(offers, batch_size=2000)
        Campaign.objects.filter(pk=self.campaign.pk).update(reserved=f"{len(offers) * 0.1:.4f}")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE annotation_offer")

    def clear(self) -> None:
        """Empty queues; answered offers stop standing in the way of the next ones."""
        Offer.objects.update(state=Offer.State.LAPSED, held_until=None)
        Campaign.objects.filter(pk=self.campaign.pk).update(reserved=0)

    def count_comparisons(self) -> int:
        return Comparison.objects.filter(campaign=self.campaign).count()

    def fill(self, count: int, *, responses: int) -> None:
        """As many comparisons more, by the database itself."""
        pairs = responses * (responses - 1) // 2
        with connection.cursor() as cursor:
            cursor.execute(
                """
                WITH made AS (
                    INSERT INTO annotation_conversation
                        (campaign_id, digest, messages, category, language, source, external_id, is_held_out,
                         created_at)
                    SELECT %s, 'filling-' || n, '[{"role": "user", "content": "Filling"}]', '', '', '', '', false, now()
                    FROM generate_series(1, %s) n RETURNING id
                )
                INSERT INTO annotation_response (conversation_id, digest, messages, origin, author)
                SELECT made.id, 'filling-' || n, '[{"role": "assistant", "content": "Filling"}]', 'imported', ''
                FROM made, generate_series(1, %s) n
                """,
                [self.campaign.pk, -(-count // pairs), responses],
            )
            cursor.execute(
                """
                INSERT INTO annotation_comparison (campaign_id, conversation_id, a_id, b_id, category, is_held_out,
                    is_active, gold_feedback, is_tutorial, priority, created_at)
                SELECT %s, a.conversation_id, a.id, b.id, '', false, true, '', false, 0, now()
                FROM annotation_response a JOIN annotation_response b
                ON a.conversation_id = b.conversation_id AND a.id < b.id
                WHERE a.digest LIKE 'filling-%%'
                """,
                [self.campaign.pk],
            )
            # What the database would otherwise do while the next measurement runs.
            for table in ("comparison", "response", "conversation", "offer", "label"):
                cursor.execute(f"VACUUM ANALYZE annotation_{table}")
            cursor.execute("CHECKPOINT")
