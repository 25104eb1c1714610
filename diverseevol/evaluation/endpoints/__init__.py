"""OpenAI-compatible endpoints: reached, asked and understood, by judges and by answers alike."""
