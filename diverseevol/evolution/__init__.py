"""What happens in a round and from round to round. Start reading at `loop`."""
