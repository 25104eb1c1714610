"""One HTML page: its text, its rows and answers, and where it is written."""
