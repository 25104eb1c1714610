"""Rows: located, read, checked, as text and as tokens; held-out rows among them."""
