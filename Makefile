# Everything that a fresh machine needs: `make evolve` and `make test`. Both set the environment up by themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/diverseevol
SEEDS  ?= 5
FEW    ?= 5
JOBS   ?= 2
SIZE   ?= small
# The clock of bench-models: the processor's seconds, which other work on the machine does not lengthen, or wall.
CLOCK  ?= processor
# What bench-models measures: a folder with a model, and a file of rows.
MODEL  ?= $(DIVERSEEVOL_TEST_MODEL)
DOLLY  ?= $(DIVERSEEVOL_TEST_DATA:%=%/databricks-dolly-15k.jsonl)
# The authors' evol_gpt4_judge_reference, or archives of its folders.
JUDGEMENTS ?= $(or $(DIVERSEEVOL_TEST_DATA:%=%/gpt4_judgments),evol_gpt4_judge_reference)
# The paper's tables and figures (experiments/README.md).
REPRODUCED := figure2 figure3 figure4 main-results one-time win-tie-lose paper

.DEFAULT_GOAL := help
.PHONY: help setup smollm2 wandb-dashboard evolve sweep ablations report test test-fast test-slow test-nightly test-versions test-gpu model-table model-cards check format table-vicuna $(REPRODUCED) bench bench-gpu bench-models lab-foundation clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## the environment .venv, with the proven versions of constraints.txt

# With the pins: an unpinned torch brings gigabytes of CUDA to machines that have none.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

evolve: setup  ## a complete evolution on the lab: no data, network, key or GPU needed
	$(RUN) evolve

sweep: setup  ## every sampler on the lab against random: SEEDS=5 (or 10) of K-Center and random, FEW=5 of the others, JOBS=2 at a time
	$(BIN)/python experiments/lab/sweep.py --seeds $(SEEDS) --few $(FEW) --jobs $(JOBS)

ablations: setup  ## K-Center against random on the lab, one condition changed at a time (after `make sweep`)
	$(BIN)/python experiments/lab/ablations.py --jobs $(JOBS)

report: setup  ## figures, tables and one HTML page over all runs below outputs/
	$(RUN) report

wandb-dashboard: setup  ## save the W&B view: ENTITY=me [PROJECT=diverseevol] [BENCHMARKS=vicuna,koala] (docs/wandb.md)
	$(if $(ENTITY),,$(error give ENTITY=…, your user or team))
	$(BIN)/python -m diverseevol.report.dashboard "$(ENTITY)" "$(or $(PROJECT),diverseevol)" $(if $(BENCHMARKS),--benchmarks "$(BENCHMARKS)")

test: setup  ## the default test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: setup  ## the tests of pure functions, for the edit loop
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "fast and not slow and not nightly"

test-slow: setup  ## the slow tests: kills, sweeps, several processes
	$(BIN)/python -m pytest -m "slow and not nightly" -n 2 --dist worksteal

test-nightly: setup test-versions  ## the longest tests: what is too long for every change
	$(BIN)/python -m pytest -m nightly -n 2 --dist worksteal

test-versions: setup  ## the tests of test-fast with the lowest versions that pyproject.toml allows, and on Python 3.13
	$(BIN)/python tests/other_versions.py lowest
	$(BIN)/python tests/other_versions.py python3.13

model-table: setup  ## docs/families.md: every family of models, tried
	$(BIN)/python tests/families.py

model-cards: setup  ## docs/models.md: which model fits which card, by the arithmetic of `plan`
	$(BIN)/python tests/model_cards.py

check: setup  ## lint, format, types and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## fix what can be fixed automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

table-vicuna: setup  ## the paper's figure 2 with intervals, from the released judgements in JUDGEMENTS
	$(BIN)/python experiments/table_vicuna.py "$(JUDGEMENTS)"

# LAUNCH=1 runs what the lab lacks, JOBS evolutions at a time; LAUNCH=full what full scale lacks, one after another.
$(REPRODUCED): setup
	$(BIN)/python experiments/paper.py $@ --judgements "$(JUDGEMENTS)" --out "$(or $(OUT),outputs/paper)" --launch "$(LAUNCH)" --jobs $(JOBS)

figure2:       ## relative score against training rows; LAUNCH=1 runs what the lab lacks
figure3:       ## Vendi-Score against training rows, likewise
figure4:       ## relative score against Vendi-Score at equal sizes, likewise
main-results:  ## final relative scores by data set, sampler and benchmark, likewise
one-time:      ## many selections against one, likewise
win-tie-lose:  ## win, tie and lose at the final round, likewise
paper:         ## all of these

# OPTIONS="model.path=FOLDER data.path=FILE benchmark.path=FILE benchmark.competitor=FILE" where there is no hub.
smollm2: setup  ## SmolLM2-135M on 400 rows of Dolly, K-Center beside random, three seeds: an hour and a half of one core
	$(RUN) evolve -m experiment=smollm2_dolly seed=0,1,2 sampler=kcenter,random outputs=outputs/smollm2 $(OPTIONS)
	$(RUN) compare folder=outputs/smollm2 'metric=[held_out_loss,reference_loss/vicuna,vendi_score_centred,coverage_radius]'
	$(RUN) report folder=outputs/smollm2

bench: setup  ## each part beside the plain alternative, interleaved, as ratios; SIZE=full: the paper's sizes
	$(BIN)/python -m perf --size $(SIZE)

bench-models: setup  ## a real MODEL on the rows of DOLLY beside the plain Hugging Face way: fit, embedding, answers, memory
	$(if $(MODEL),,$(error give MODEL=…, a folder with a causal language model))
	$(if $(DOLLY),,$(error give DOLLY=…, a file of rows such as databricks-dolly-15k.jsonl))
	$(BIN)/python -m perf.real_model --model "$(MODEL)" --data "$(DOLLY)" --size $(SIZE) --clock $(CLOCK)

test-gpu: setup  ## the tests that need a CUDA device; skipped without one
	$(BIN)/python -m pytest -m gpu

# Measured parts are kept: the same command goes on. MODEL: the folder of SmolLM2, which is left out without it.
bench-gpu: setup  ## models of real sizes on this machine's GPU beside the plain way, in 9 minutes; docs/performance.md
	DIVERSEEVOL_TEST_MODEL="$(MODEL)" $(BIN)/python -m perf.gpu; code=$$?; $(BIN)/python -m perf.gpu.table; exit $$code

lab-foundation: setup  ## pretrain the lab's foundation model from its seed into outputs/lab-foundation
	$(BIN)/python experiments/lab/pretrain.py --out outputs/lab-foundation

clean:  ## remove what builds and tests left; outputs/ stays
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache $(VENV)/.ready
