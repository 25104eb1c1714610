"""How figures look and what each shows."""
