"""Benchmarks by their public names."""

from typing import TYPE_CHECKING

from diverseevol.public import lazily

if TYPE_CHECKING:
    from diverseevol.evaluation.questions.benchmarks import Benchmark as Benchmark
    from diverseevol.evaluation.questions.benchmarks import Question as Question
    from diverseevol.evaluation.questions.benchmarks import load_benchmark as load  # noqa: F401
    from diverseevol.evaluation.questions.benchmarks import load_paper as load_paper
    from diverseevol.evaluation.questions.benchmarks import no_benchmark as none  # noqa: F401

__getattr__, __dir__ = lazily(__name__, __file__)
