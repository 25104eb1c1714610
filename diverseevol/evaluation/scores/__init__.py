"""From judgements to numbers: relative scores, comparisons over seeds and over questions."""
