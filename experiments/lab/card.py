"""Write the foundation model's card from what its pretraining noted down.

python experiments/lab/card.py PRETRAINING_JSON OUT_README
"""
# ruff: noqa: E501 — a row of a Markdown table is one line

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from gate import LEAST, MEAN

from diverseevol.lab.world import WORLD

CARD = """# The lab's foundation model

A Llama of {parameters:,} parameters that has read plain text of a small closed world and nothing else: no instruction,
no response, no template. `model=lab` tunes it on instruction rows of the same world. It is an instrument for studying
data selection and knows no natural language beyond its few hundred words.

| | |
|---|---|
| architecture | Llama, hidden {hidden}, {layers} layers, {heads} heads, feed-forward {feed_forward}, tied embeddings, {positions} positions |
| tokeniser | byte-level BPE, {vocabulary:,} entries, trained on the same text, the words of the Alpaca template and the phrasings without their arguments |
| weights | float16 on disk, computed with in float32 |
| text | {tokens:,} tokens, written from the facts and skills of `diverseevol/lab` by `experiments/lab/text.py`: paragraphs 35 %, series of one skill 20 %, notes 25 %, delayed answers 20 % |
| recipe | one pass, blocks of {block}, {batch} a step, AdamW (0.9, 0.98), learning rate {learning_rate}, {warmup} steps of warm-up, cosine to a twentieth, weight decay {weight_decay}, clipping at 1, float32, no dropout |
| seed | {seed}, {threads} thread |
| time | {minutes} minutes on one busy core |
| made by | `make lab-foundation` (`experiments/lab/pretrain.py`) |

The text holds every fact of the world, those that the benchmarks ask about too, as a large model's does: what the
benchmarks hold out is never *asked* in the rows.

## Loss

Nats a token on text not seen before (one pass), mean since the line above.

| tokens | loss |
|---|---|
{loss}

## Gate

Share of right plain completions ("The opposite of hot is" → "cold."), greedy, word for word, {probes} probes a skill.
Every skill of the lab's world must reach {least}, and all on average {mean}: they reach {reached:.2f}. Skills that did not were
taken out of the world before this model was trained (`experiments/lab/README.md` lists them).

| skill | known |
|---|---|
{gate}

## Limits

- Before tuning it answers {exact} of the questions word for word: the relative score is {lab:.2f} on `lab` and
  {development:.2f} on `lab_development`, where 10 is the floor.
- Half of the gate's probes are facts that the text repeats hundreds of times: "known" means remembered, except for
  lists, sentences, numbers in order and dates, whose arguments are too many to remember.
- Another number of threads, another version of torch or another processor gives other weights from the same seed.
- What helps here need not help a model of 7 billion parameters, and the other way round.
"""


def main(pretraining: Path, card: Path) -> None:
    """Write the card."""
    notes = json.loads(pretraining.read_text())
    known = {skill.name: notes["gate"][skill.name] for skill in WORLD}
    untuned = notes["untuned"]
    text = CARD.format(
        **notes["recipe"],
        parameters=notes["parameters"],
        vocabulary=notes["vocabulary"],
        threads=notes["threads"],
        minutes=round(notes["minutes"]),
        loss="\n".join(_loss(notes["loss"])),
        probes=notes["probes"],
        least=LEAST,
        mean=MEAN,
        reached=np.mean(list(known.values())),
        exact=f"{max(scores['exact'] for scores in untuned.values()):.1%}",
        lab=untuned["lab"]["relative_score"],
        development=untuned["lab_development"]["relative_score"],
        gate="\n".join(
            f"| `{name}` | {share:.2f} |" for name, share in sorted(known.items(), key=lambda item: -item[1])
        ),
    )
    card.write_text(text)


def _loss(curve: list[list[Any]]) -> list[str]:
    parts = [part for part in np.array_split(np.array(curve), 12) if len(part)]
    return [f"| {int(part[-1, 0]):,} | {part[:, 1].mean():.3f} |" for part in parts]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
