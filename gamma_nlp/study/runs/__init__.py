"""The runs of a study: a process and a folder each, and the record that is kept to."""
