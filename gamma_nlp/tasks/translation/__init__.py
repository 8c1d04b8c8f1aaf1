"""Translation: training, decoding, averaging and scores."""
