"""The card of an exported subset: what was chosen from what, how, and how other people's loaders read it."""

from collections.abc import Iterable, Iterator, Sequence

import yaml  # type: ignore[import-untyped]

from diverseevol import __version__
from diverseevol.export.chosen import Chosen
from diverseevol.export.loaders import Loaders
from diverseevol.export.tally import QUANTILES, Tally
from diverseevol.output.markdown import plain
from diverseevol.output.terminal import one_line

MARK = "<!-- written by diverseevol export -->"  # by which an earlier export is known
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGER = "1M<n<10M"


def card(
    chosen: Chosen, tally: Tally, form: str, loaders: Loaders, name: str, where: str, on_hub: bool, again: str
) -> str:
    """The card, in Markdown with the header that `datasets` reads.

    Args:
        chosen: the subset.
        tally: the counts of its rows.
        form: the format that they were written in.
        loaders: what loaders are told.
        name: the entry in `dataset_info.json`.
        where: the folder, or the name on the hub.
        on_hub: which of the two.
        again: the command that exported it.
    """
    title = f"{tally.rows:,} rows of {chosen.name}"
    header = {
        "pretty_name": title,
        "task_categories": ["text-generation"],
        "size_categories": [next((size for limit, size in SIZES if tally.rows < limit), LARGER)],
        "tags": ["diverseevol", "data-selection"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": loaders.file}]}],
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---",
        MARK,
        f"# {plain(title)}",
        f"{tally.rows:,} rows of {_code(chosen.name)}, chosen by "
        f"diverseevol and exported by version {__version__} as `{form}`, in the order in which they joined.",
        "## How they were chosen",
        _table(("", ""), ((heading, _code(fact)) for heading, fact in chosen.facts.items())),
        "```bash\n" + "\n".join([*([chosen.command] if chosen.command else []), again]) + "\n```",
        "## What is in it",
        *_contents(tally),
        "## How to read it",
        f"```python\nfrom datasets import load_dataset\n\nrows = load_dataset({where!r}, split=\"train\")\n```",
        *_readers(tally, loaders, name, where, on_hub),
        "## Licence",
        "Not stated: the rows keep the licence of the data that they come from. Fill it in here, and as `license:` in "
        "the header.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _contents(tally: Tally) -> Iterator[str]:
    if lengths := list(tally.lengths()):
        yield _table(("", *QUANTILES), ((name, *(f"{value:,}" for value in values)) for name, values in lengths))
    for title, counts in (("source", tally.sources), ("tag", tally.tags)):
        if counts:
            shares = ((_code(key), f"{count:,}", f"{count / tally.rows:.1%}") for key, count in counts.most_common())
            yield _table((title, "rows", "share"), shares)
    if tally.with_tools:
        yield f"{tally.with_tools:,} rows have turns of tools, or calls of them."


def _readers(tally: Tally, loaders: Loaders, name: str, where: str, on_hub: bool) -> Iterator[str]:
    if loaders.format is None:
        return
    yield "**TRL**"
    yield loaders.trl(where)
    yield "**axolotl**"
    yield loaders.axolotl(where, on_hub)
    yield "**LLaMA-Factory**"
    if loaders.llama_factory() is None:
        yield "LLaMA-Factory does not read this format: export again with `format=messages`."
        return
    folder = "" if on_hub else f"dataset_dir: {where}\n"
    yield f"```yaml\n{folder}dataset: {name}    # of dataset_info.json\n```"
    if tally.not_alternating:
        yield (
            f"LLaMA-Factory leaves out the {tally.not_alternating:,} rows whose turns are not a question and an answer "
            f"in turn."
        )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    return f"`{one_line(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
