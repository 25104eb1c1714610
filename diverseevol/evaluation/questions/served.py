"""Answers of a model that a server runs: put into the same files as a model's own, question by question."""

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from diverseevol.data.prompt import Prompt
from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.server import Running
from diverseevol.evaluation.questions.answer_file import AnswerFile, seed_of
from diverseevol.progress import Progress

log = logging.getLogger(__name__)

SEED_BITS = 31  # what every server takes
# What a server would otherwise take from the model's own configuration, or from defaults of its own.
PLAIN_SAMPLING = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


def answer_by_server(
    file: AnswerFile, running: Running, prompt: Prompt, seed: Sequence[int], progress: Progress
) -> None:
    """Answer what is missing; each answer is on disk as soon as it comes.

    Args:
        file: which questions, how, and where to.
        running: the server.
        prompt: template and tokeniser, which make the prompts here.
        seed: what the sampling comes from; each question has a seed of its own below it.
        progress: shows how far it has come.

    Raises:
        InputError: the server does not accept the requests, or does not answer some question.
        ConnectionError: it does not answer at all.
    """
    from diverseevol.engine.answering.generation import fitting
    from diverseevol.evaluation.endpoints.completions import Completing, Completion

    questions, generation = file.benchmark.questions, file.generation
    begun = file.begun()
    missing = [index for index in range(len(questions)) if index not in begun]
    asked = [questions[index] for index in missing]
    prompts = prompt.ids([question.instruction for question in asked], [question.input for question in asked])
    if running.positions is not None:
        prompts = fitting(prompts, running.positions, generation)
    plain = {"max_tokens": generation.max_new_tokens, "temperature": generation.temperature}
    requests = {
        index: {**plain, "seed": _seed(seed_of(seed, file.benchmark, index)), **_fields(running, prompt, ids)}
        for index, ids in zip(missing, prompts, strict=True)
    }
    cut = 0
    with progress.track(f"answer {file.benchmark.name}", len(missing)) as advance:

        def keep(index: int, model: str, answer: Completion) -> None:
            nonlocal cut
            cut += answer.finish == "length" and answer.tokens is not None and answer.tokens < generation.max_new_tokens
            text = answer.text.strip()
            if answer.ids is not None:
                text = prompt.text(list(itertools.takewhile(lambda token: token not in prompt.stop_tokens, answer.ids)))
            file.append({index: text}, server={"model": model, "finish_reason": answer.finish})
            advance(1)

        completing = Completing(running, requests, keep)
        if requests:
            completing.run()
    if cut:
        log.warning(
            "%s: the server ended %d of %d answers before generation.max_new_tokens=%d: it leaves too little room "
            "after a prompt; raise what it reads (vLLM's --max-model-len, llama.cpp's -c)",
            file.path, cut, len(questions), generation.max_new_tokens,
        )  # fmt: skip
    if completing.refused:
        first = min(completing.refused)
        raise InputError(
            f"{running.server.base_url} does not answer {len(completing.refused)} of {len(questions)} questions of "
            f"benchmark {file.benchmark.name} (the first: {questions[first].id!r}: {completing.refused[first]}); the "
            f"other answers are kept: run the same command again, or answers=model for what is missing"
        )
    file.sort()
    file.finish()


def _seed(seed: Sequence[int]) -> int:
    return int(np.random.SeedSequence(list(seed)).generate_state(1)[0]) >> (32 - SEED_BITS)


def _fields(running: Running, prompt: Prompt, ids: list[int]) -> dict[str, Any]:
    """What a request says beside lengths and sampling: the prompt, and where an answer ends.

    Raises:
        InputError: the prompt cannot be sent as text, since the server's tokeniser would read other tokens.
    """
    if running.server.prompt == "ids":
        return {"prompt": ids, "stop_token_ids": prompt.stop_tokens, "return_token_ids": True, **PLAIN_SAMPLING}
    ends = [prompt.tokenizer.decode([token]) for token in prompt.stop_tokens]
    return {"prompt": as_text(prompt, ids), "stop": [end for end in ends if end], "top_p": 1.0}


def as_text(prompt: Prompt, ids: list[int]) -> str:
    """The text of a prompt that a server's tokeniser, which is the model's, reads as these ids.

    Raises:
        InputError: there is none.
    """
    for part in (ids, ids[1:]):  # servers put the token that begins a text before it
        text = str(prompt.tokenizer.decode(part, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if list(prompt.tokenizer(text)["input_ids"]) == ids:
            return text
    raise InputError(
        "answers.prompt=text: the model's tokeniser reads other tokens from the text of a prompt than the prompt has, "
        "so that the server would be asked something else; give answers.prompt=ids, which vLLM, SGLang and llama.cpp "
        "take"
    )
