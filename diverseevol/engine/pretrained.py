"""The foundation model: the fixed weights that every round starts from."""

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import cached_file

from diverseevol.data.alpaca import alpaca
from diverseevol.data.dataset import Dataset
from diverseevol.data.hub import may_be_on_hub, out_of_reach, say_that_a_cache_is_used
from diverseevol.errors import InputError, meant
from diverseevol.options import WEIGHTS
from diverseevol.parallel.background import interruptible
from diverseevol.storage.cache import cached_folder, content_digest
from diverseevol.storage.reading import refuse_special

FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}  # in safetensors
MAX_WEIGHTS = 1_000_000_000  # of model=tiny: 4 GB
# What a tokeniser is trained on at most: more says nothing new.
TOKENISER_ROWS = 50_000
TOKENISER_CHARACTERS = 1 << 26
# The time that training takes grows with the square of a word that repeats itself; nobody's words are this long.
LONG_WORD = re.compile(r"\S{1000}|\s{1000}")


@runtime_checkable
class Foundation(Protocol):
    """Where a foundation model comes from."""

    def prepare(self, dataset: Dataset, cache: Path) -> "Pretrained":
        """A model on disk or on the hub, made first where necessary."""
        ...


@dataclass(frozen=True)
class Pretrained:
    """Any causal language model of the hub or of a local folder in its format.

    Attributes:
        path: a hub name or a folder with config, tokeniser and safetensors weights.
        revision: branch, tag or commit of the hub.
        dtype: how weights are held; "float32" with trainer.precision=bf16-mixed is the paper's way.
        attention: the attention implementation ("sdpa", "eager", "flash_attention_2", …); "auto" is the fastest of
            torch's own that the model's family supports.
        trust_remote_code: run code that the model's repository brings; off unless you ask.
    """

    path: str
    revision: str | None = None
    dtype: str = "float32"
    attention: str = "auto"
    trust_remote_code: bool = False

    def prepare(self, dataset: Dataset, cache: Path) -> "Pretrained":
        """Itself: it needs no preparation.

        Raises:
            InputError: no model is loaded with such options.
        """
        if self.dtype not in WEIGHTS:
            raise InputError(f"model.dtype is {self.dtype!r}; choose {', '.join(WEIGHTS[:-1])} or {WEIGHTS[-1]}")
        known = ("auto", "eager", *ALL_ATTENTION_FUNCTIONS.valid_keys())
        if self.attention not in known and "/" not in self.attention:  # a kernel's name on the hub
            raise InputError(
                f"model.attention={self.attention}: no such implementation{meant(self.attention, known)}; choose from "
                f"{', '.join(dict.fromkeys(known))}"
            )
        return self

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokeniser."""
        self._check_files()
        self._check_hub()
        try:
            return AutoTokenizer.from_pretrained(self.path, **self._where())
        except Exception as error:  # libraries have errors of every kind for files that are damaged, a bare one too
            raise self._cannot("tokeniser", error) from error

    def configuration(self) -> PreTrainedConfig:
        """The model's configuration, which says its sizes; no weights are read."""
        self._check_files()
        self._check_hub()
        try:
            return AutoConfig.from_pretrained(self.path, **self._where())
        except Exception as error:  # as above
            raise self._cannot("configuration", error) from error

    def load(self, folder: Path | None = None) -> PreTrainedModel:
        """The weights: the foundation's own, or those that a round left in `folder`, in the precision it had."""
        where = self._where() if folder is None else {"trust_remote_code": self.trust_remote_code}
        if folder is None:
            self._check_hub()
        try:
            # Without `dtype` transformers 5 takes the checkpoint's own. Only safetensors: no pickle from outside.
            model, report = AutoModelForCausalLM.from_pretrained(
                folder or self.path,
                output_loading_info=True,
                dtype=getattr(torch, self.dtype) if folder is None else "auto",
                attn_implementation=None if self.attention == "auto" else self.attention,
                use_safetensors=True,
                **where,
            )
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # as above
            raise self._cannot("weights", error, folder) from error
        if absent := sorted(report["missing_keys"]):  # transformers would draw them at random
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise self._cannot("weights", ValueError(f"{absent[0]}{more} of config.json is not among them"), folder)
        return model

    def to_train(self) -> PreTrainedModel:
        """A model whose weights are all trained, from the foundation's own."""
        return self.load()

    def save(self, model: PreTrainedModel, folder: Path, dtype: Literal["source"] | None = None) -> None:
        """Save a model that was trained from this one.

        Args:
            model: the model.
            folder: where its weights and configuration go.
            dtype: "source" for the checkpoint's precision, to which the model itself is rounded, too, so that what is
                probed and answers is what is on disk; None for the precision that it has.
        """
        model.save_pretrained(folder, state_dict=None if dtype is None else self.rounded(model))

    def rounded(self, model: PreTrainedModel) -> dict[str, torch.Tensor]:
        """Round a model's weights to the checkpoint's precision, in place; they themselves in that precision."""
        source = self.source_dtype()
        state: dict[str, torch.Tensor] = model.state_dict()
        saved: dict[tuple[int, torch.Size], torch.Tensor] = {}  # tied weights stay one tensor, and are saved once
        for name, tensor in state.items():
            if tensor.is_floating_point():  # some models have integer buffers
                state[name] = saved.setdefault((tensor.data_ptr(), tensor.shape), tensor.to(source))
                tensor.copy_(state[name])
        return state

    def source_dtype(self) -> torch.dtype:
        """The precision of the checkpoint's weights, the widest where they differ, whatever its configuration says."""
        try:
            config = cached_file(self.path, "config.json", revision=self.revision)  # among the weights
            kinds = set()
            for file in Path(str(config)).parent.glob("*.safetensors"):
                with safe_open(file, "pt") as weights:
                    kinds |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        except Exception as error:  # as above
            raise self._cannot("weights", error) from error
        known = [FLOATS[kind] for kind in kinds & FLOATS.keys()] or [torch.float32]
        return functools.reduce(torch.promote_types, known)

    def identity(self, cache: Path | None = None) -> str:
        """A digest of configuration, tokeniser and weights: of content, not of names or times.

        Args:
            cache: remembers the digests of large files, so that an unchanged file is read once and not at every start.
        """
        digest = hashlib.sha256(f"{self.dtype}".encode())
        folder = Path(self.path)
        if folder.is_dir():
            for file in (
                sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.jinja"))
            ):
                digest.update(f"{file.name} {content_digest(file, cache)}".encode())
        else:
            commit = getattr(self.configuration(), "_commit_hash", None) or self.revision
            digest.update(json.dumps([self.path, commit]).encode())
        return digest.hexdigest()

    def _check_files(self) -> None:
        """Refuse a folder with a pipe or a device in it, which the library would open and wait for.

        Raises:
            InputError: it has one.
        """
        folder = Path(self.path)
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            refuse_special(file, f"model.path={self.path}: {file.name}")

    def _check_hub(self) -> None:
        """Refuse a name on the hub where it cannot be asked and nothing was downloaded before."""
        if not may_be_on_hub(self.path) or (reason := out_of_reach()) is None:
            return
        if not isinstance(try_to_load_from_cache(self.path, "config.json", revision=self.revision), str):
            raise InputError(
                f"model.path={self.path}: is no folder here and was not downloaded before, and {reason}; connect to "
                f"the network, or give a folder with config.json, a tokeniser and safetensors weights"
            )
        say_that_a_cache_is_used(self.path)

    def _where(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    def _cannot(self, part: str, error: Exception, folder: Path | None = None) -> InputError:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if self.attention != "auto" and "attention" in reason.lower():
            return InputError(
                f"model.attention={self.attention}: {self.path} does not take it ({reason}); give model.attention=auto"
            )
        if folder is not None:
            return InputError(f"{folder}: its {part} cannot be loaded ({reason}); delete the folder to redo its step")
        return InputError(
            f"model.path={self.path}: its {part} cannot be loaded ({reason}); give a hub name or a folder with "
            f"config.json, a tokeniser and safetensors weights"
        )


@dataclass(frozen=True)
class TinyLlama:
    """A small Llama with random weights and a byte-level BPE trained on the rows: for trials without a download.

    Attributes:
        hidden: width of the hidden states.
        layers: number of decoder layers.
        heads: number of attention heads.
        vocabulary: entries of the tokeniser, the two special tokens included.
        positions: the longest sequence.
        seed: of the weights.
    """

    hidden: int = 64
    layers: int = 2
    heads: int = 2
    vocabulary: int = 2000
    positions: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads"):
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.hidden % (2 * self.heads):
            raise InputError(
                f"model.hidden={self.hidden} must be a multiple of twice model.heads={self.heads}; change either"
            )
        for name, limit in (("hidden", 16_384), ("layers", 512), ("vocabulary", 1_000_000), ("positions", 1 << 24)):
            if getattr(self, name) > limit:
                raise InputError(f"model.{name} is {getattr(self, name)}; of model=tiny it must be at most {limit:,}")
        weights = self.hidden * (self.vocabulary + 12 * self.layers * self.hidden)
        if weights > MAX_WEIGHTS:
            raise InputError(
                f"model=tiny would have some {weights:,} weights, at most {MAX_WEIGHTS:,} are for trials; lower "
                f"model.hidden, model.layers or model.vocabulary"
            )
        for name, least in (("positions", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"model.{name} is {getattr(self, name)}; it must be at least {least}")
        if self.vocabulary < 258:
            raise InputError(
                f"model.vocabulary={self.vocabulary} must be at least 258: all bytes and two special tokens"
            )

    def prepare(self, dataset: Dataset, cache: Path) -> Pretrained:
        """Make the model once for these rows; later runs find it in the cache."""
        key = hashlib.sha256(f"{self} {dataset.fingerprint}".encode()).hexdigest()[:32]
        folder = cached_folder(cache / "models" / key, lambda partial: self._build(dataset, partial))
        return Pretrained(str(folder))

    def _build(self, dataset: Dataset, folder: Path) -> None:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary,
            special_tokens=["<unk>", "<end>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        interruptible(
            lambda stopped: tokenizer.train_from_iterator(
                takewhile(lambda text: not stopped.is_set(), _texts(dataset)), trainer
            )
        )
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            unk_token="<unk>",
            eos_token="<end>",
            pad_token="<end>",
            model_max_length=self.positions,
        )
        fast.save_pretrained(folder)
        config = LlamaConfig(
            vocab_size=len(fast),
            hidden_size=self.hidden,
            intermediate_size=16 * -(-self.hidden // 6),  # Llama's ratio of 8/3, a multiple of 16
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.positions,
            tie_word_embeddings=True,
            initializer_range=0.06,  # wider than usual: narrow hidden states would hardly attend
            bos_token_id=None,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = LlamaForCausalLM(config)
        model.save_pretrained(folder)


def _texts(dataset: Dataset) -> Iterator[str]:
    """What a tokeniser is trained on: prompts and responses of rows from all over the data set."""
    every, left = -(-len(dataset) // TOKENISER_ROWS), TOKENISER_CHARACTERS
    rows = (row for batch in dataset.iterate() for row in batch)
    for row in islice(rows, 0, None, every):
        texts = (alpaca(row.turns[0]), row.response) if row.is_exchange else (turn.message for turn in row.turns)
        for text in texts:
            yield from _pieces(text[:left])
            left -= min(left, len(text))
        if not left:
            return


def _pieces(text: str) -> Iterator[str]:
    """A text, cut within words that are too long."""
    start = 0
    for match in LONG_WORD.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    yield text[start:]
