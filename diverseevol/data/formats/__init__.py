"""The formats that records come in, one file each: a record to a conversation and back."""
