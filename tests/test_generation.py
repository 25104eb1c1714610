import dataclasses
import functools

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from diverseevol.cli.binding import bind
from diverseevol.engine.answering.continuous import check_continuous, generate_continuously
from diverseevol.engine.answering.generation import GumbelNoise, generate, kept_in_single
from diverseevol.errors import InputError
from diverseevol.options import Generation

QUESTIONS = [
    ("Why?", ""),
    ("Name three words about the cat.", ""),
    ("Sum up.", "The bee met 7 times a jay."),
    ("Eh?", ""),
]


@pytest.fixture(scope="module")
def model(learner):
    """Wilder weights than the usual ones, so that answers differ from prompt to prompt and from token to token."""
    model = learner.foundation.load().eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for weight in model.parameters():
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def prompts(prompt):
    return prompt.ids(*map(list, zip(*QUESTIONS, strict=True)))


def seeds(count: int) -> list[tuple[int, int]]:
    return [(5, i) for i in range(count)]


def greedy(model, prompt: list[int], length: int, stops: list[int]) -> list[int]:
    """Token after token, without a cache, padding or a generation loop."""
    ids = list(prompt)
    for _ in range(length):
        with torch.no_grad():
            best = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if best in stops:
            break
        ids.append(best)
    return ids[len(prompt) :]


@pytest.mark.usefixtures("engine_path")
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_batch_answers_as_one_prompt_at_a_time(model, prompts, temperature):
    assert len({len(ids) for ids in prompts}) > 2
    options = Generation(max_new_tokens=12, temperature=temperature, batch_size=1)
    alone = generate(model, prompts, seeds(4), options, [1])
    assert len(set(map(tuple, alone))) == len(prompts)
    assert max(len(set(ids)) for ids in alone) > 6
    for size in (3, 40):
        assert generate(model, prompts, seeds(4), dataclasses.replace(options, batch_size=size), [1]) == alone


def test_answers_come_in_the_order_of_the_questions(model, prompts):
    options = Generation(max_new_tokens=6, batch_size=2)
    forwards = generate(model, prompts, seeds(4), options, [1])
    backwards = generate(model, prompts[::-1], seeds(4)[::-1], options, [1])
    assert forwards == backwards[::-1]


@pytest.mark.usefixtures("engine_path")
def test_temperature_zero_takes_the_likeliest_token_each_time(model, prompts):
    answers = generate(model, prompts, seeds(4), Generation(max_new_tokens=7, temperature=0.0), [1])
    assert answers == [greedy(model, ids, 7, [1]) for ids in prompts]


def test_an_answer_depends_on_its_seed(model, prompts):
    options = Generation(max_new_tokens=8, temperature=0.7)
    first, again = (generate(model, prompts[:1] * 2, [(1,), (2,)], options, [1]) for _ in range(2))
    assert first == again
    assert first[0] != first[1]


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_gumbel_noise_samples_from_the_softmax(temperature):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])
    draws = 8_000
    noise = GumbelNoise(temperature, [(0, i) for i in range(draws)])
    picks = noise(torch.zeros(draws, 1, dtype=torch.int64), logits.expand(draws, -1)).argmax(dim=-1)
    found = np.bincount(picks.numpy(), minlength=5)
    expected = draws * (logits.double() / temperature).softmax(dim=-1).numpy()
    chi_square = float(((found - expected) ** 2 / expected).sum())
    assert chi_square < 18.5  # 4 degrees of freedom: exceeded once in a thousand times


def test_successive_noise_is_fresh():
    noise = GumbelNoise(1.0, [(0,)])
    ids, logits = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1000)
    first, second = (noise(ids, logits)[0].numpy() for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


def test_noise_that_is_drawn_ahead_is_the_same():
    ids, logits = torch.zeros(4, 1, dtype=torch.int64), torch.randn(4, 500)
    now, ahead = GumbelNoise(0.7, seeds(4)), GumbelNoise(0.7, seeds(4), ahead=True)
    for _ in range(3):
        assert torch.equal(now(ids, logits), ahead(ids, logits))
    now, ahead = now.of([3, 1]), ahead.of([3, 1])
    for _ in range(2):
        assert torch.equal(now(ids[:2], logits[:2]), ahead(ids[:2], logits[:2]))


@pytest.mark.usefixtures("engine_path")
def test_an_answer_ends_before_its_stop_token(model, prompts):
    options = Generation(max_new_tokens=10, temperature=0.0)
    free = generate(model, prompts, seeds(4), options, [1])
    stop = free[0][3]
    stopped = generate(model, prompts, seeds(4), options, [1, stop])
    for whole, cut in zip(free, stopped, strict=True):
        assert cut == (whole[: whole.index(stop)] if stop in whole else whole)
    assert len(stopped[0]) <= 3


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_ended_rows_are_dropped_and_the_others_answer_as_before(model, prompts, temperature, engine_path):
    many, options = prompts * 2, Generation(max_new_tokens=12, temperature=temperature, batch_size=8)
    free = generate(model, many, seeds(8), options, [1])
    stops = [1, *{ids[3 + i // 2] for i, ids in enumerate(free[:6])}]  # ends at several lengths
    expected = [ids[: next((i for i, token in enumerate(ids) if token in stops), 12)] for ids in free]
    assert len({len(ids) for ids in expected}) > 2
    rows: list[int] = []
    watch = model.register_forward_pre_hook(
        lambda _, args, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    try:
        assert generate(model, many, seeds(8), options, stops) == expected
    finally:
        watch.remove()
    decoding = rows[-(max(map(len, expected))) :]
    assert decoding == sorted(decoding, reverse=True)
    assert (decoding[-1] < 8) == (engine_path == "fast")


@pytest.mark.usefixtures("engine_path")
@pytest.mark.parametrize("kind", ["gpt2", "mistral", "qwen2"])
def test_models_of_other_kinds_answer_as_without_cache_and_padding(prompts, kind):
    sizes = {"gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2}}.get(
        kind, {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    )
    others = {"mistral": {"sliding_window": 8, "num_key_value_heads": 2}, "qwen2": {"num_key_value_heads": 2}}
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1}
    config = AutoConfig.for_model(kind, vocab_size=300, **sizes, **others.get(kind, {}), **ends)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = AutoModelForCausalLM.from_config(config).eval()
        for weight in other.parameters():
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.3)
    answers = generate(other, prompts, seeds(4), Generation(max_new_tokens=80, temperature=0.0), [1])
    assert answers == [greedy(other, ids, 80, [1]) for ids in prompts]


def test_an_answer_has_at_most_the_tokens_asked_for(model, prompts):
    answers = generate(model, prompts, seeds(4), Generation(max_new_tokens=3), [299])
    assert max(map(len, answers)) == 3


def test_what_the_checkpoint_says_of_generation_is_ignored(learner, prompts):
    model, told = learner.foundation.load(), learner.foundation.load()
    told.generation_config = GenerationConfig(
        do_sample=True, temperature=9.0, top_k=1, repetition_penalty=5.0, eos_token_id=[35], max_new_tokens=2,
        num_beams=3, no_repeat_ngram_size=1, suppress_tokens=list(range(40, 300)), min_length=50,
    )  # fmt: skip
    before = told.generation_config.to_dict()
    for temperature in (0.0, 0.7):
        options = Generation(max_new_tokens=8, temperature=temperature)
        assert generate(told, prompts, seeds(4), options, [1]) == generate(model, prompts, seeds(4), options, [1])
    assert told.generation_config.to_dict() == before


def test_every_prompt_is_counted_once(model, prompts):
    done: list[int] = []
    generate(model, prompts, seeds(4), Generation(max_new_tokens=1, batch_size=3), [1], done.append)
    assert done == [2, 2]


def test_no_prompts_have_no_answers(model):
    assert generate(model, [], [], Generation(), [1]) == []


def test_continuous_batching_answers_as_batches_do(model, prompts):
    greedy_options = Generation(max_new_tokens=9, temperature=0)
    stops = [greedy(model, prompts[0], 9, [])[4], 2]
    expected = generate(model, prompts, seeds(len(prompts)), greedy_options, stops)
    attention = model.config._attn_implementation
    assert generate_continuously(model, prompts, 9, stops) == expected
    assert model.config._attn_implementation == attention
    assert generate(model, prompts, seeds(len(prompts)), greedy_options, stops) == expected, "nothing is left behind"
    assert generate_continuously(model, [], 9, stops) == []


def test_a_family_that_continuous_batching_cannot_do_is_refused_in_a_sentence():
    config = AutoConfig.for_model("mamba", vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(InputError, match=r"batching fails with this model .*; give generation.continuous=fal"):
        generate_continuously(AutoModelForCausalLM.from_config(config), [[3, 4, 5]], 6, [1])


@pytest.mark.parametrize(
    ("device", "autocast", "sentence"),
    [
        (
            "cpu",
            False,
            "generation.continuous=true is for CUDA, and the model is on cpu; give generation.contin",
        ),
        ("cuda", True, "computes in the weights' precision, and the trainer's is mixed; give model.dtype=bfloat16"),
    ],
)
def test_continuous_batching_is_refused_where_it_would_not_do_as_asked(device, autocast, sentence):
    with pytest.raises(InputError, match=sentence):
        check_continuous(torch.device(device), autocast=autocast)


def test_the_learner_refuses_continuous_batching_on_the_processor(learner, model):
    with pytest.raises(InputError, match="is for CUDA, and the model is on cpu"):
        learner.answer(model, [("a", "")], seeds(1), Generation(max_new_tokens=2, temperature=0, continuous=True))


@pytest.mark.usefixtures("engine_path")
def test_the_learner_answers_in_text_without_special_tokens(learner, model):
    options = Generation(max_new_tokens=9, temperature=0.0)
    answers = learner.answer(model, QUESTIONS, seeds(4), options)
    prompts = learner.prompt.ids(*map(list, zip(*QUESTIONS, strict=True)))
    expected = [learner.prompt.tokenizer.decode(greedy(model, ids, 9, [1])).strip() for ids in prompts]
    assert answers == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_new_tokens": 0}, "generation.max_new_tokens is 0; it must be at least 1"),
        ({"batch_size": 0}, "generation.batch_size is 0; it must be at least 1"),
        ({"temperature": -1}, "generation.temperature is -1.0; it must not be negative (0 is greedy)"),
        (
            {"continuous": True},
            "generation.continuous=true answers greedily, for it cannot give each question a seed of its own, and "
            "generation.temperature is 0.7; give generation.temperature=0 or generation.continuous=false",
        ),
        ({"temperature": float("nan")}, "generation.temperature is nan, which is not a finite number"),
    ],
)
def test_generation_that_cannot_be_is_refused(options, sentence):
    with pytest.raises(InputError) as caught:
        bind(Generation, options, "generation")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("precision", "kind"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_answers_are_computed_in_the_trainers_precision(learner, model, precision, kind):
    kinds = set()
    watch = model.lm_head.register_forward_hook(lambda module, inputs, logits: kinds.add(logits.dtype))
    own = dataclasses.replace(learner, trainer=functools.partial(learner.trainer, precision=precision))
    try:
        answers = own.answer(model, QUESTIONS, seeds(4), Generation(max_new_tokens=5, batch_size=2))
    finally:
        watch.remove()
    assert len(answers) == len(QUESTIONS)
    assert kinds == {kind}


def test_answers_end_at_each_end_that_the_checkpoint_names(learner, model):
    options = Generation(max_new_tokens=8, temperature=0.0, batch_size=4)
    answers = learner.answer(model, QUESTIONS, seeds(4), options)
    ids = generate(model, learner.prompt.ids(*map(list, zip(*QUESTIONS, strict=True))), seeds(4), options, [1])
    third = ids[0][2]  # ends the first answer after its second token
    theirs = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=[1, third])
    try:
        shorter = learner.answer(model, QUESTIONS, seeds(4), options)
    finally:
        model.generation_config = theirs
    expected = [learner.prompt.text(tokens[: tokens.index(third)] if third in tokens else tokens) for tokens in ids]
    assert shorter == expected != answers


def test_what_is_drawn_in_double_precision_is_drawn_in_single_precision_too():
    """On Apple's GPUs, which have no double precision: rows in which the two largest scores are next to each other."""
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 1000)) * 30)
    largest = scores.argmax(dim=1)
    rivals = (largest - 1) % 1000  # of equal ones, the first is the largest
    rows = torch.arange(50)
    scores[rows, rivals] = torch.nextafter(scores[rows, largest], torch.tensor(-torch.inf, dtype=torch.float64))
    assert (scores.float().argmax(dim=1) == scores.argmax(dim=1)).float().mean() < 1, "rounding alone would not do"
    single = kept_in_single(scores)
    assert single.dtype == torch.float32
    assert torch.equal(single.argmax(dim=1), scores.argmax(dim=1))
    assert (single[rows, rivals] < 0).all()
