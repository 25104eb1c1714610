"""Judges by their public names."""

from typing import TYPE_CHECKING

from diverseevol.public import lazily

if TYPE_CHECKING:
    from diverseevol.evaluation.judges.without_model import GoldJudge as Gold  # noqa: F401
    from diverseevol.evaluation.judges.without_model import NoJudge as NoJudge
    from diverseevol.evaluation.judges.without_model import OverlapJudge as Overlap  # noqa: F401
    from diverseevol.evaluation.judges.local_judge import LocalJudge as Local  # noqa: F401
    from diverseevol.evaluation.judges.openai_judge import OpenAIJudge as OpenAI  # noqa: F401
    from diverseevol.evaluation.judges.replay import ReplayJudge as Replay  # noqa: F401

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Gold": "diverseevol.evaluation.judges.without_model:GoldJudge",
        "Local": "diverseevol.evaluation.judges.local_judge:LocalJudge",
        "NoJudge": "diverseevol.evaluation.judges.without_model:NoJudge",
        "OpenAI": "diverseevol.evaluation.judges.openai_judge:OpenAIJudge",
        "Overlap": "diverseevol.evaluation.judges.without_model:OverlapJudge",
        "Replay": "diverseevol.evaluation.judges.replay:ReplayJudge",
    },
)
