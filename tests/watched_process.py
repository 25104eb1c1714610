"""`python -m watched_process VERB …`: diverseevol, with notes of what this one of several processes did.

`$NOTES/<rank>.jsonl` gets a line for each file or folder made or put in its place, each batch that passed through a
model, and each prompt answered.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

NOTES = (Path(os.environ["NOTES"]) / f"{os.environ.get('RANK', '0')}.jsonl").open("a", buffering=1, encoding="utf-8")


def note(kind: str, value: Any) -> None:
    NOTES.write(json.dumps([kind, value]) + "\n")


def hook(event: str, details: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(details[0], str | os.PathLike) and details[2] & (os.O_CREAT | os.O_TRUNC):
        note("made", os.fspath(details[0]))
    elif event in ("os.rename", "os.link", "os.symlink"):
        note("made", os.fspath(details[1]))


def watch() -> None:
    from diverseevol.engine.answering import answerer
    from diverseevol.engine.probing.probe import Probe
    from diverseevol.engine.tuning.batches import IGNORED
    from diverseevol.engine.tuning.sft import InstructionTuner

    embed, train, generate = Probe.predict_step, InstructionTuner.training_step, answerer.generate

    def embedding(self: Any, batch: Any, batch_idx: int) -> Any:
        note("embedded", [batch_idx, batch["rows"].tolist()])
        return embed(self, batch, batch_idx)

    def training(self: Any, batch: Any, batch_idx: int) -> Any:
        taught = [micro["rows"][(micro["labels"] != IGNORED).any(dim=1)] for micro in batch]
        note("trained", [batch_idx, [row for rows in taught for row in rows.tolist()]])
        return train(self, batch, batch_idx)

    def answering(model: Any, prompts: Any, *options: Any) -> Any:
        note("answered", [0, prompts])
        return generate(model, prompts, *options)

    Probe.predict_step, InstructionTuner.training_step, answerer.generate = embedding, training, answering


if __name__ == "__main__":
    sys.addaudithook(hook)
    watch()
    from diverseevol.cli import main

    main()
