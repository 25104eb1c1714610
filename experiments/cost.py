"""What a run at full scale takes, calculated from the assumptions in `paper.yaml`, which a user may know better.

Training costs 6 and reading 2 floating-point operations a parameter and token (Kaplan et al. 2020, arXiv 2001.08361),
at the share of the GPU's peak that is assumed; answers at the tokens a second that are assumed. Starting up, loading
and writing weights come on top, so the hours are a lower bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEDULES = {  # pools that models are trained on, and how often all rows are embedded
    "iterative": ([100 + 100 * t for t in range(11)], 10),
    "one_time": ([100, 1100], 1),
    "full": (None, 0),
}
READ_NOTHING = ("random", "vendi")


@dataclass(frozen=True)
class Cost:
    """Of one run.

    Attributes:
        train, embed, answer: GPU hours.
        calls: to the judge.
        dollars: for them.
    """

    train: float
    embed: float
    answer: float
    calls: int
    dollars: float

    @property
    def gpu_hours(self) -> float:
        """All of them."""
        return self.train + self.embed + self.answer


def cost(assumed: Mapping[str, Any], data: str, schedule: str, sampler: str = "kcenter") -> Cost:
    """Calculate one run.

    Args:
        assumed: `cost` of paper.yaml.
        data: the data set's name there.
        schedule: as `schedule=` calls it.
        sampler: as `sampler=` calls it: some read no row with the round's model. The foundation model reads all once.
    """
    gpu, judge, rows = assumed["gpu"], assumed["judge"], assumed["data"][data]
    pools, embeddings = SCHEDULES[schedule]
    pools = [rows["rows"]] if pools is None else pools
    token = gpu["parameters"] / (gpu["peak_flops"] * gpu["share_of_peak"]) / 3600  # GPU hours for one operation each
    trained = sum(pools) * gpu["epochs"] * rows["tokens_per_row"]
    passes = 1 + (0 if sampler in READ_NOTHING else embeddings)
    read = rows["rows"] * rows["tokens_per_row"] * passes
    answered = len(pools) * judge["questions"] * gpu["tokens_per_answer"]
    calls = 2 * len(pools) * judge["questions"]
    dollars = (
        calls * (judge["prompt_tokens"] * judge["prompt_price"] + judge["reply_tokens"] * judge["reply_price"]) / 1e6
    )
    return Cost(
        6 * trained * token, 2 * read * token, answered / gpu["answer_tokens_per_second"] / 3600, calls, dollars
    )
