"""The gate: what a foundation model knows of a world, asked by plain completion, before anything is tuned on it.

"The opposite of hot is" → "cold.": a skill passes where the model goes on, greedily, with the right answer word for
word. Tuning can bring out what a model knows, and hardly teach it what it does not. Beside it, how well the model
answers before it is tuned.
"""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from diverseevol.data.prompt import Prompt
from diverseevol.engine.answering.generation import generate
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.judges.without_model import Gold
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.lab.skill import World
from diverseevol.options import Generation, PromptOptions

LEAST, MEAN = 0.5, 0.8  # what a kept skill reaches, and what they reach on average
PROBES = 40  # arguments asked of each skill


def known_share(
    world: World, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, probes: int = PROBES, seed: int = 0
) -> dict[str, float]:
    """The share of correct completions of each skill, by its name.

    Args:
        world: the skills to ask about.
        model: the foundation model.
        tokenizer: its tokeniser.
        probes: arguments asked of each skill; fewer where it has not as many.
        seed: of the choice of arguments.
    """
    rng = np.random.default_rng([seed, 11])
    parts, owners = [], []
    for skill in world:
        for i in rng.permutation(len(skill.arguments))[:probes]:
            parts.append(skill.state(skill.arguments[i]))
            owners.append(skill.name)
    right = _completed(model, tokenizer, parts)
    return {
        skill.name: float(np.mean([r for r, o in zip(right, owners, strict=True) if o == skill.name]))
        for skill in world
    }


def _completed(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parts: Sequence[tuple[str, str]]
) -> list[bool]:
    prompts = [tokenizer(before)["input_ids"] for before, _ in parts]
    options = Generation(max_new_tokens=20, temperature=0.0, batch_size=80)
    ids = generate(model, prompts, [(0,)] * len(prompts), options, [int(tokenizer.eos_token_id)])
    texts = (tokenizer.decode(tokens).strip() for tokens in ids)
    return [text.startswith(wanted) for text, (_, wanted) in zip(texts, parts, strict=True)]


def untuned_score(benchmark: Benchmark, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """The relative score of a model as it is, asked as the tuned ones are, and the share of wholly right answers."""
    prompt, asked = Prompt(tokenizer, PromptOptions()), benchmark.questions
    prompts = prompt.ids([q.instruction for q in asked], [q.input for q in asked])
    ids = generate(model, prompts, [(0,)] * len(asked), Generation(24, 0.0, 80), prompt.stop_tokens)
    texts = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in ids]
    answers = {q.id: text for q, text in zip(asked, texts, strict=True)}
    scores = np.array([judgement.model_score for judgement in Gold().judge(AnswerSheet(benchmark, answers))])
    return {"relative_score": round(float(10 * scores.mean()), 2), "exact": round(float((scores == 10).mean()), 3)}
