"""A subset for other people's trainers: in their formats, with a card, on disk or on the hub."""
