"""What makes `diverseevol evolve` a matter of seconds: the lab's rows, few of them, and a tiny model."""

SMALL = (
    "model=tiny", "model.hidden=32", "model.heads=2", "model.vocabulary=400", "data.size=200", "schedule.rounds=1",
    "schedule.seed_size=20", "schedule.step_size=10", "tuning.steps=5", "benchmark=lab_natural",
    "benchmark.questions=20", "generation.max_new_tokens=8",
)  # fmt: skip
