"""Which model fits which card, how fine-tuned, and for how many hours: `make model-cards` writes `docs/models.md`.

All of it is the arithmetic of `diverseevol plan`, of models' published sizes; nothing is loaded.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from diverseevol.cli.checked_options import tuning_of
from diverseevol.cli.configuration import configure
from diverseevol.engine.arithmetic import Amount, Numbers, Shape, llama, total
from diverseevol.engine.cards import CARDS, RESERVED
from diverseevol.evolution.plan import Asked, Rates, Workload
from diverseevol.options import Efficiency, Generation, LoRA, Schedule, Tuning
from diverseevol.samplers.base import Needs

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
RANK = 32
# Models by their sizes in config.json: hidden, intermediate, layers, heads, vocabulary, heads of keys and values.
MODELS = {
    "SmolLM2-135M": {"sizes": (576, 1536, 30, 9, 49152, 3), "tied": True},
    "Qwen2.5-0.5B": {"sizes": (896, 4864, 24, 14, 151936, 2), "tied": True, "biases": True},
    "Llama-3.2-1B": {"sizes": (2048, 8192, 16, 32, 128256, 8), "tied": True},
    "Qwen2.5-1.5B": {"sizes": (1536, 8960, 28, 12, 151936, 2), "tied": True, "biases": True},
    "Llama-3.2-3B": {"sizes": (3072, 8192, 28, 24, 128256, 8), "tied": True},
    "LLaMA-7B": {"sizes": (4096, 11008, 32, 32, 32000, 32)},
    "Qwen2.5-7B": {"sizes": (3584, 18944, 28, 28, 152064, 4), "biases": True},
    "Llama-3.1-8B": {"sizes": (4096, 14336, 32, 32, 128256, 8)},
}
MIXED, HALF = Numbers.of("float32", "bf16-mixed"), Numbers.of("bfloat16", "bf16-mixed")
COMMON = {"micro_batch_tokens": 2048, "gradient_checkpointing": True}
TUNINGS = {
    "full": (Tuning(**COMMON), MIXED),
    "full, rounded": (Tuning(**COMMON, rounding="stochastic"), HALF),
    "LoRA": (LoRA(**COMMON), HALF),
}
SHOWN = ("L4", "RTX-4090", "L40S", "A100-40GB", "A100-80GB", "H100", "H200")
BATCH_TOKENS = 2048  # of a probe, as on every GPU
ROWS, TOKENS, RESPONSES, QUESTIONS, PROMPT, LONGEST = 15_015, 210, 0.4, 80, 100, 512
SIZES = (40, 20, 8, 4, 1)  # answers at a time: the most that fit

ABOVE = f"""\
# Models and cards

Does your model fit your card, how fine-tuned, and for how many hours? **Everything on this page is arithmetic, by the
function behind [`diverseevol plan`](commands.md#plan), from the models' published sizes and the cards' data sheets.
Measured on a GPU: *not measured yet*, neither a size nor an hour.** For your own rows, model and options ask `plan`.
Which families of models work at all: [families.md](families.md).

The evolution is the paper's: {ROWS:,} rows of {TOKENS} tokens (Dolly's, roughly), 100 + 10 × 100 of them for three
epochs, `sampler=kcenter`, which reads all rows ten times, and the {QUESTIONS} questions of Vicuna-Bench in each of
eleven rounds, whose prompts have {PROMPT} tokens on average and {LONGEST} at most. Hours assume 40 % of a card's peak
of products in fits, 50 % in reading, and 50 % of its memory's bandwidth in answers, where a layer takes half a
millisecond at least for the next token of a batch; all answers reach 1,024 tokens: shorter ones take less. Loading
and writing models and judging come on top.

* **full**: `tuning=full trainer=bf16`, the paper's way: weights, gradients and moments in float32.
* **full, rounded**: `tuning=full model.dtype=bfloat16 trainer=bf16 tuning.rounding=stochastic`: all of these in
  bfloat16.
* **LoRA**: `tuning=lora model.dtype=bfloat16 trainer=bf16`, rank {RANK} on all linear layers.

All with `tuning.micro_batch_tokens=2048 tuning.gradient_checkpointing=true`. *GB* is the memory of a fit, of reading
and of answers to 8 questions at a time; {RESERVED / 1e9:.1f} GB of a card are left for CUDA. A card's column has the
hours of the evolution on one such card, where all of it fits (with as many answers at a time, up to 40, as fit:
`generation.batch_size`); **–** where it does not, with what does not fit.

`make model-cards` makes this page anew.

"""
BESIDE = """
## The paper's experiments

LLaMA-7B with the options of `conf/experiment/`, as they are; `× 4` are four processes. *GB* is of each.

"""
CARDS_ABOVE = """
## Cards

What `card=` knows: peaks of dense products in TFLOP/s (vendors also print twice as much, for matrices of which half is
zero), memory in GB and its bandwidth in GB/s, by the vendors' own documents. Half precision is bfloat16, and float16
alone where bfloat16 is *no*.

"""


def shape_of(model: Mapping[str, object], rank: int = 0) -> Shape:
    """The shape of a model of the table, with adapters of a rank or without."""
    features = {name: value for name, value in model.items() if name != "sizes"}
    return llama(*model["sizes"], **features, rank=rank)  # type: ignore[misc, arg-type]


def workload(shape: Shape, tuning: Tuning, numbers: Numbers, generation: Generation, questions: int) -> Workload:
    """The paper's evolution with a model."""
    row = Amount(TOKENS, TOKENS**2)
    eligible = dataclasses.replace(row, logits=RESPONSES * TOKENS) * ROWS
    return Workload(
        shape=shape, numbers=numbers, tuning=tuning, schedule=Schedule(10, 100, 100), every=row * ROWS,
        eligible=eligible, rows=ROWS, needs=Needs("current"), asked=(Asked("questions", questions, PROMPT, LONGEST),),
        generation=generation,
    )  # fmt: skip


def hours(work: Workload, card: str, count: int) -> float:
    """Hours on so many cards."""
    rates = Rates.of_card(card, CARDS[card], count, work.numbers, Efficiency())
    work = dataclasses.replace(work, processes=count)
    first = work.eligible * (100 / ROWS)
    return sum(rates.seconds(cost) or 0.0 for costs in work.rounds(first) for cost in costs.values()) / 3600


def on_card(work: Workload, card: str, count: int = 1, sharded: bool = False, sizes: tuple[int, ...] = SIZES) -> str:
    """A cell: the hours, or what does not fit."""
    for size in sizes:
        generation = dataclasses.replace(work.generation, batch_size=size)
        trial = dataclasses.replace(work, generation=generation, processes=count)
        memory = trial.memory(BATCH_TOKENS, sharded)
        if all(total(parts) <= CARDS[card].usable for parts in memory.values()):
            return f"{hours(trial, card, count):.2g} h"
    lacking = [phase for phase, parts in memory.items() if total(parts) > CARDS[card].usable]
    return f"– ({', '.join(lacking)})"


def gigabytes(work: Workload, count: int = 1, sharded: bool = False) -> str:
    """The memory of a fit, of reading and of answers."""
    memory = dataclasses.replace(work, processes=count).memory(BATCH_TOKENS, sharded).values()
    return " / ".join(f"{total(parts) / 1e9:.1f}" for parts in memory)


def table_of_models() -> str:
    """A line for each model and tuning."""
    lines = [f"| model | weights | tuning | GB | {' | '.join(SHOWN)} |", "|---|" * 1 + "---|" * (3 + len(SHOWN))]
    for name, model in MODELS.items():
        for called, (tuning, numbers) in TUNINGS.items():
            shape = shape_of(model, RANK if isinstance(tuning, LoRA) else 0)
            work = workload(shape, tuning, numbers, Generation(batch_size=8), QUESTIONS)
            cells = [on_card(work, card) for card in SHOWN]
            weights = f"{shape.weights / 1e9:.2f} billion"
            lines.append(f"| {name} | {weights} | {called} | {gigabytes(work)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def table_of_experiments() -> str:
    """A line for each of the paper's experiments on the cards that it is meant for."""
    lines = ["| experiment | cards | GB | hours |", "|---|---|---|---|"]
    for name, places in (
        ("paper_dolly", (("A100-80GB", 4), ("H100", 4), ("H200", 1), ("H100", 1))),
        ("paper_dolly_lora", (("L4", 1), ("A10G", 1), ("RTX-3090", 1), ("RTX-4090", 1), ("H100", 1))),
    ):
        settings = configure("evolve", [f"experiment={name}"])
        tuning, generation = tuning_of(settings), settings.options("generation", Generation)
        trainer = settings.value("trainer", dict)
        numbers = Numbers.of(settings.value("model.dtype"), trainer["precision"])
        rank = tuning.rank if isinstance(tuning, LoRA) else 0
        work = workload(shape_of(MODELS["LLaMA-7B"], rank), tuning, numbers, generation, 80 + 180 + 218)
        for card, count in places:
            sharded = count > 1 and trainer["strategy"] == "fsdp"
            cell = on_card(work, card, count, sharded, (generation.batch_size,))
            lines.append(f"| `{name}` | {count} × {card} | {gigabytes(work, count, sharded)} | {cell} |")
    return "\n".join(lines) + "\n"


def table_of_cards() -> str:
    """A line for each card."""
    lines = [
        "| `card=` | half | float32 | GB | GB/s | bfloat16 | by | torch calls it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, card in CARDS.items():
        numbers = " | ".join(f"{value:g}" for value in (card.half, card.float32, card.memory, card.bandwidth))
        reported = ", ".join(f"`{each}`" for each in card.reported)
        lines.append(f"| `{name}` | {numbers} | {'yes' if card.bfloat16 else 'no'} | {card.source} | {reported} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page."""
    parts = (ABOVE, table_of_models(), BESIDE, table_of_experiments(), CARDS_ABOVE, table_of_cards())
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
