"""Judges by their public names, and what one of your own is made with."""

from typing import TYPE_CHECKING

from diverseevol.public import lazily

if TYPE_CHECKING:
    from diverseevol.evaluation.judges.base import AnswerSheet as AnswerSheet
    from diverseevol.evaluation.judges.base import Capabilities as Capabilities
    from diverseevol.evaluation.judges.base import Judgement as Judgement
    from diverseevol.evaluation.judges.local_judge import Local as Local
    from diverseevol.evaluation.judges.openai_judge import OpenAI as OpenAI
    from diverseevol.evaluation.judges.replay import Replay as Replay
    from diverseevol.evaluation.judges.without_model import Gold as Gold
    from diverseevol.evaluation.judges.without_model import NoJudge as NoJudge
    from diverseevol.evaluation.judges.without_model import Overlap as Overlap

__getattr__, __dir__ = lazily(__name__, __file__)
