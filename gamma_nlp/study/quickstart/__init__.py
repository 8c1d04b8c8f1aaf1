"""``gamma-nlp demo``: known models first, then two small studies and their reports."""
