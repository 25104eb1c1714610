"""Pretrain the lab's foundation model from a seed: `make lab-foundation`.

    python experiments/lab/pretrain.py [--tokens N] [--seed K] [--threads N] [--world MODULE.NAME] [--out FOLDER]
                                       [--ungated]

Writes config, tokeniser, 16-bit weights and `pretraining.json` (recipe, loss curve, gate, untuned scores). The model
reads plain text only. Exit code 1 says that what was written does not pass the gate.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import transformers
from gate import LEAST, MEAN, PROBES, known_share, untuned_score
from tokens import train_tokenizer, write_tokens
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from diverseevol import lab
from diverseevol.errors import InputError
from diverseevol.lab.skill import WORLD, World, find_world
from diverseevol.lab.split import share_out
from diverseevol.output.terminal import LONGEST, say


@dataclass(frozen=True)
class Recipe:
    """How the shipped model was made; tokens is what decides the time."""

    tokens: int = 5_000_000
    seed: int = 0
    block: int = 160
    batch: int = 8
    learning_rate: float = 2.5e-3
    warmup: int = 200
    weight_decay: float = 0.05
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    positions: int = 512

    @classmethod
    def of(cls, tokens: int, seed: int) -> "Recipe":
        """The recipe for so many tokens: a short run warms up for at most a third of its steps.

        Raises:
            InputError: they are too few for one step.
        """
        recipe = cls(tokens=tokens, seed=seed)
        steps = tokens // recipe.block // recipe.batch
        if steps < 1:
            raise InputError(f"--tokens is {tokens}; one step takes {recipe.batch * recipe.block:,}, give more")
        return replace(recipe, warmup=min(recipe.warmup, steps // 3))


def main(words: list[str] | None = None) -> int:
    """Pretrain, write the folder, say whether it passes the gate: the exit code."""
    options = arguments(words)
    try:
        recipe, world = Recipe.of(options.tokens, options.seed), find_world(options.world)
        share_out(world)  # what cannot be asked about need not be learned
    except InputError as error:
        say(f"pretrain: {error}", error=True, longest=LONGEST)
        return 2
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    known = make(world, recipe, options)
    if (failure := below_the_gate(known)) is None:
        return 0
    say(
        f"pretrain: {options.out} is below the gate: {failure}; give it more --tokens, take out what it does not know, "
        f"or accept it with --ungated", error=True,
    )  # fmt: skip
    return 0 if options.ungated else 1


def arguments(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads; results depend on it")
    parser.add_argument("--world", default=WORLD, help="MODULE.NAME of a tuple of skills")
    parser.add_argument("--out", type=Path, default=Path("outputs/lab-foundation"))
    parser.add_argument("--ungated", action="store_true", help="exit code 0 below the gate, too")
    return parser.parse_args(words)


def make(world: World, recipe: Recipe, options: argparse.Namespace) -> dict[str, float]:
    """Write the folder; what the model knows of each skill."""
    start = time.time()
    tokenizer = train_tokenizer(world, recipe.seed, recipe.positions)
    text = write_tokens(world, tokenizer, recipe.tokens, recipe.seed)
    model = new_model(recipe, tokenizer)
    curve = pretrain(model, text, recipe)
    known = known_share(world, model, tokenizer, PROBES)
    for name, share in sorted(known.items(), key=lambda item: item[1]):
        say(f"{share:5.2f} {name}{'' if share >= LEAST else '   below the gate'}")
    say(f"mean {np.mean(list(known.values())):.3f} (gate {MEAN}), {(time.time() - start) / 60:.1f} minutes")
    untuned = untuned_scores(options.world, model, tokenizer)
    model.half().save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    report = {
        "recipe": asdict(recipe), "threads": options.threads, "minutes": round((time.time() - start) / 60, 1),
        "parameters": model.num_parameters(), "vocabulary": len(tokenizer), "probes": PROBES,
        "loss": curve, "gate": known, "untuned": untuned,
    }  # fmt: skip
    (options.out / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n")
    return known


def untuned_scores(
    world: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> dict[str, dict[str, float]]:
    """What the model has on the balanced benchmarks before it is tuned."""
    asked = [one for make in (lab.benchmark, lab.development) for one in make(world=world, cache=Path())]
    return {benchmark.name: untuned_score(benchmark, model, tokenizer) for benchmark in asked}


def below_the_gate(known: Mapping[str, float]) -> str | None:
    """Which skills are not known, and what they all reach on average; None where the gate is passed."""
    weak = [f"{name} {share:.2f}" for name, share in sorted(known.items(), key=lambda each: each[1]) if share < LEAST]
    mean = float(np.mean(list(known.values())))
    if not weak and mean >= MEAN:
        return None
    return f"mean {mean:.3f} (at least {MEAN})" + (f"; below {LEAST}: {', '.join(weak)}" if weak else "")


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with random weights from the seed."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    say(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens in the vocabulary")
    return model


def pretrain(model: LlamaForCausalLM, text: np.ndarray, recipe: Recipe) -> list[tuple[int, float]]:
    """One pass over the text in packed blocks; the loss every hundredth of the way, as (tokens, nats a token)."""
    blocks = text[: len(text) // recipe.block * recipe.block].reshape(-1, recipe.block)
    steps = len(blocks) // recipe.batch
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    start, losses, curve = time.time(), [], []
    every = max(1, steps // 100)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate(step, steps, recipe.warmup)
        ids = torch.from_numpy(blocks[step * recipe.batch : (step + 1) * recipe.batch].astype(np.int64))
        logits = model(
            input_ids=ids, use_cache=False
        ).logits  # in float32: bfloat16 was ten times slower without AVX-512
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % every == 0:
            done = (step + 1) * recipe.batch * recipe.block
            curve.append((done, round(float(np.mean(losses[-every:])), 4)))
            speed = done / (time.time() - start)
            left = (steps - step - 1) * recipe.batch * recipe.block / speed / 60
            say(f"{done:,} tokens, loss {curve[-1][1]:.3f}, {speed:,.0f} tokens/s, {left:.1f} min left")
    return curve


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine to a twentieth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


if __name__ == "__main__":
    sys.exit(main())
