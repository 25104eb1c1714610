"""Pretrain the lab's foundation model from a seed: `make lab-foundation`.

    python experiments/lab/pretrain.py [--tokens N] [--seed K] [--threads N] [--world MODULE.NAME] [--out FOLDER]

Writes config, tokeniser, 16-bit weights and `pretraining.json` (recipe, loss curve, gate). It reads plain text only.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from tokens import train_tokenizer, write_tokens
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from diverseevol.lab.gate import LEAST, MEAN, PROBES, known_share
from diverseevol.lab.skill import find_world


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


def main() -> None:
    """Pretrain, pass the gate, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads; results depend on it")
    parser.add_argument("--world", default="diverseevol.lab.world.WORLD")
    parser.add_argument("--out", type=Path, default=Path("outputs/lab-foundation"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    recipe = Recipe(tokens=options.tokens, seed=options.seed)
    world = find_world(options.world)
    start = time.time()
    tokenizer = train_tokenizer(world, recipe.seed, recipe.positions)
    text = write_tokens(world, tokenizer, recipe.tokens, recipe.seed)
    model = new_model(recipe, tokenizer)
    curve = pretrain(model, text, recipe)
    known = known_share(world, model, tokenizer, PROBES)
    for name, share in sorted(known.items(), key=lambda item: item[1]):
        print(f"{share:5.2f} {name}{'' if share >= LEAST else '   below the gate'}")
    print(f"mean {np.mean(list(known.values())):.3f} (gate {MEAN}), {(time.time() - start) / 60:.1f} minutes")
    model.half().save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    report = {
        "recipe": asdict(recipe), "threads": options.threads, "minutes": round((time.time() - start) / 60, 1),
        "parameters": model.num_parameters(), "vocabulary": len(tokenizer), "probes": PROBES,
        "loss": curve, "gate": known,
    }  # fmt: skip
    (options.out / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n")


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
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens in the vocabulary", flush=True)
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
            print(f"{done:,} tokens, loss {curve[-1][1]:.3f}, {speed:,.0f} tokens/s, {left:.1f} min left", flush=True)
    return curve


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine to a twentieth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


if __name__ == "__main__":
    main()
