"""Query by committee: the rows that models trained on the same facts disagree about."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from diverseevol.errors import InputError
from diverseevol.samplers.base import Needs, Selection, finite_scores
from diverseevol.samplers.features import Features


@dataclass(frozen=True)
class QueryByCommittee:
    """Takes the rows that a committee of models disagrees about most (Seung et al. 1992).

    Disagreement is measured at every position that predicts a response token, and averaged over the response. The
    score of a pick is its disagreement in nats. Of rows that are disagreed about equally, chance decides: where a
    committee has one member only (`committee="rounds"` in round 0) all are, and the choice is random.

    Costs, of a bagging committee, `size` − 1 further fits a round, one pass of each member over the rows, and the
    memory of `size` sets of weights during that pass. Of a committee of rounds, the passes and the weights only.

    Attributes:
        size: members, the round's own model being one.
        disagreement: "vote_entropy", the entropy of the members' votes for the most likely token (Dagan & Engelson
            1995), or "kl", the members' mean divergence from their mean prediction (McCallum & Nigam 1998); both as
            in section 3.2 of Settles 2009.
        committee: "bagging", each further member trained on a bootstrap resample of the pool (Abe & Mamitsuka 1998),
            or "rounds", the models of the last rounds, which cost no training but know less of the pool.
    """

    size: int = 4
    disagreement: Literal["vote_entropy", "kl"] = "vote_entropy"
    committee: Literal["bagging", "rounds"] = "bagging"

    def __post_init__(self) -> None:
        if self.size < 2:
            raise InputError(f"sampler.size is {self.size}; a committee needs at least 2 members to disagree")

    @property
    def statistic(self) -> str:
        """The name of the statistic that rows are sorted by (see `diverseevol.engine.probing.committee_probe`)."""
        return f"committee_{self.disagreement}"

    @property
    def needs(self) -> Needs:
        """The committee's disagreement, and who sits on it beside the round's own model."""
        partners, bagging = self.size - 1, self.committee == "bagging"
        return Needs(
            statistics=frozenset({self.statistic}),
            committee=partners if bagging else 0,
            earlier=0 if bagging else partners,
        )

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        candidates = rng.permutation(np.flatnonzero(~taken))
        score = finite_scores(features, self.statistic, candidates)
        order = np.argsort(-score, kind="stable")[:n]
        meaning = f"disagreement of the committee ({self.disagreement}), nats a response token; the highest is picked"
        return Selection(candidates[order], score[order].astype(np.float64), meaning)
