"""The worker's side: load, compute, store. One function per verb."""

from activelearning.pipeline.embedding import embed
from activelearning.pipeline.estimating import refit
from activelearning.pipeline.leaving import weigh_withdrawal
from activelearning.pipeline.replanning import replan
from activelearning.pipeline.replaying import replay, store_replay
from activelearning.pipeline.sweeping import sweep

__all__ = ["embed", "refit", "replan", "replay", "store_replay", "sweep", "weigh_withdrawal"]
