"""The same exact greedy choice where the pool is a torch tensor: passes run on its device, decisions on the CPU."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from .choice_tables import TIE
from .eligibility import NO_PAIRS, check_constraints
from .information import NotFinite, cholesky
from .kernels import Rows, revalue_all, spread
from .lazy import LazyGreedy, counts
from .scoring import rounding_slack
from .short_lists import build_lists
from .teacher_choice import build_choice
from .types import Floats, Ints, Pick, Pool, Teachers

LEVEL = 4096
"""Rows brought to the CPU at a time, at the least."""
BLOCK = 65536


class TorchGreedy:
    """Greedy dual D-optimal picks (M7, M8) from a pool on any torch device.

    The device keeps an upper bound of every q. The rows whose value reaches a level come to the CPU, where LazyGreedy
    picks among them for as long as its best reaches the level; then the picks' updates (M9) pass over the pool on the
    device, which lowers the bounds, and a new level is set.
    """

    def __init__(
        self,
        pool: Pool,
        teachers: Teachers,
        *,
        theta: Floats,
        information: Floats,
        judged: Ints = NO_PAIRS,
        budget: float | None = None,
    ) -> None:
        """Arguments as for LazyGreedy; pool.design is a (m, d) float32 tensor. Scores every row once."""
        check_constraints(pool, teachers, judged=judged)
        self.design: torch.Tensor = torch.as_tensor(pool.design)
        self.pool, self.teachers, self.theta = pool, teachers, theta
        self.information, self.judged, self.left = information.copy(), judged, math.inf if budget is None else budget
        device = self.design.device
        along = torch.from_numpy(theta).to(device)
        self.gap = np.concatenate(
            [np.empty(0), *((part.double() @ along).abs().cpu().numpy() for part in blocks(self.design))]
        )
        if not np.isfinite(self.gap).all():
            bad = int(np.flatnonzero(~np.isfinite(self.gap))[0])
            raise NotFinite(f"comparison {bad} has NaN or infinite features")
        inverse = np.linalg.inv(cholesky(information))
        whitener = torch.from_numpy(inverse).to(device, torch.float32)
        lengths = torch.from_numpy(np.linalg.norm(inverse, axis=0)).to(device, torch.float32)
        self.unit = 2.0**-11 if device.type == "cuda" else 2.0**-24  # TF32 may be on
        slack = rounding_slack(len(theta)) * self.unit * 2.0**24
        self.q = torch.cat(
            [
                torch.empty(0, dtype=torch.float64, device=device),
                *(
                    ((part @ whitener.T).double().norm(dim=1) + slack * (part * lengths).double().norm(dim=1)).square()
                    for part in blocks(self.design)
                ),
            ]
        )

    def picks(self, size: int) -> list[Pick]:
        """Up to `size` picks in the order chosen; fewer when no pair is left that tells anything."""
        chosen: list[Pick] = []
        width = LEVEL
        while len(chosen) < size:
            value = self._values()
            alive = np.flatnonzero(value > -math.inf)
            if len(alive) == 0:
                break
            few = len(alive) > width
            level = float(np.partition(value, len(value) - width)[-width]) if few else -math.inf
            near = np.flatnonzero((value >= level) & (value > -math.inf))
            found = self._pick_among(near, size=size - len(chosen), floor=level + 2.0 * TIE)
            if not found and not few:
                break
            chosen += found
            width = LEVEL if found else 2 * width
        return chosen

    def _pick_among(self, near: Ints, *, size: int, floor: float) -> list[Pick]:
        """Exact picks among a few rows, in float64 on the CPU, down to the floor; then all bounds are updated."""
        place = {int(row): i for i, row in enumerate(near)}
        here = np.array([[place[int(i)], k] for i, k in self.judged if int(i) in place], dtype=np.int64).reshape(-1, 2)
        rows = self.design[torch.from_numpy(near).to(self.design.device)].cpu().numpy()
        greedy = LazyGreedy(
            Pool(rows, self.pool.category[near], self.pool.room[near]),
            self.teachers,
            theta=self.theta,
            information=self.information,
            judged=here,
            budget=self.left,
        )
        picks = [replace(pick, comparison=int(near[pick.comparison])) for pick in greedy.picks(size, floor=floor)]
        self._count(picks)
        self.teachers = replace(self.teachers, capacity=greedy.capacity)
        self.left = greedy.left
        return picks

    def _count(self, picks: list[Pick]) -> None:
        """Picks into H and the constraints, and into every bound (M9) by one pass on the device."""
        v, c = np.empty((self.design.shape[1], len(picks))), np.empty(len(picks))
        room = self.pool.room.copy()
        for p, pick in enumerate(picks):
            row = self.design[pick.comparison].double().cpu().numpy()
            v[:, p] = np.linalg.solve(self.information, row)
            c[p] = pick.weight / (1.0 + pick.weight * float(row @ v[:, p]))
            self.information += pick.weight * np.outer(row, row)
            room[pick.comparison] -= 1
        self.pool = replace(self.pool, room=room)
        self.judged = np.vstack([self.judged, *([[pick.comparison, pick.teacher]] for pick in picks)])
        device = self.design.device
        along = torch.from_numpy(v).to(device, torch.float32)  # (d, p)
        rounding = self.design.shape[1] * self.unit * along.norm(dim=0)  # (p,)
        shrink = torch.from_numpy(c).to(device)
        for q, part in zip(blocks(self.q), blocks(self.design), strict=True):
            moved = (part @ along).abs() - part.norm(dim=1)[:, None] * rounding  # rounding never lowers a bound
            q -= moved.clamp_min(0.0).double().square() @ shrink

    def _values(self) -> Floats:
        """(m,) log(gain / cost) at the bounds of q, -inf where nobody may be asked."""
        m = len(self.gap)
        present = (self.teachers.capacity > 0) & (self.teachers.price <= self.left)
        key = np.unique(self.judged[:, 0] * len(self.teachers) + self.judged[:, 1])
        able = self.teachers.may_judge & present[:, None]
        choice = build_choice(self.teachers, able=able, judged=key, asked=key[:0])
        flagged = np.zeros(m, dtype=np.bool_)
        flagged[self.judged[:, 0]] = True
        rows = Rows(
            design=np.empty((0, 0), dtype=np.float32),
            category=self.pool.category,
            room=counts(self.pool.room),
            length=np.empty(0, dtype=np.float32),
            gap=self.gap,
            q=self.q.cpu().numpy(),
            value=np.empty(m),
            stamp=np.empty(0, dtype=np.int32),
            exact=np.empty(0, dtype=np.bool_),
            flagged=flagged,
        )
        if not choice.one_cost:
            build_lists(choice, rows.category, rows.gap, rows.q)
        spread(revalue_all, m, rows, choice)
        return rows.value


def blocks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Views of BLOCK rows each."""
    return (tensor[start : start + BLOCK] for start in range(0, len(tensor), BLOCK))
