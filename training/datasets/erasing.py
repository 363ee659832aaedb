"""Erasing withdrawn labels from the files of label sets, which stay whole and named as they are."""

import tempfile

from django.db import transaction

from annotation.leftovers import discard, keep, note
from training.datasets.frozen import canonical, keep_file, left_labels, left_lines, packed_into
from training.models import LabelSet


def is_left_behind(label_set: LabelSet) -> bool:
    """Whether somebody withdrew since the file was last brought in step."""
    return _count_left(label_set) != label_set.withdrawn_seen


def erase_withdrawn(label_set: LabelSet) -> int:
    """Bring the file in step with the withdrawals since the freeze. Returns how many labels were erased from it.

    Minutes for hundreds of thousands of labels. The row goes from the old file to the new one by conditional UPDATE: of
    two at once one gives way, and takes its own file along. A name may come again, the count of who left does not.
    raises  BrokenLabelSet
    """
    seen = _count_left(label_set)  # before the lines are read: who withdraws meanwhile counts as not yet seen
    if seen == label_set.withdrawn_seen:
        return 0
    before, erased, old = len(label_set.tombstones), set(label_set.tombstones), str(label_set.file.name)
    with tempfile.TemporaryFile() as draft:
        with packed_into(draft) as packed:
            for line in left_lines(label_set):
                if "erased" in line:
                    erased.add(line["id"])
                packed.write(canonical(line))
        new = keep_file(draft, campaign=label_set.campaign, digest=label_set.digest)
    with transaction.atomic():
        rows = LabelSet.objects.filter(pk=label_set.pk, file=old, withdrawn_seen=label_set.withdrawn_seen)
        is_taken = bool(rows.update(file=new, tombstones=sorted(erased), withdrawn_seen=seen))
        if is_taken:
            keep(new)
            note(old)
    discard(old if is_taken else new)
    label_set.refresh_from_db()
    return len(erased) - before if is_taken else 0


def _count_left(label_set: LabelSet) -> int:
    return left_labels(label_set.campaign).filter(id__lte=label_set.last_label).count()
