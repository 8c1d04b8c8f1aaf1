"""The words, presets and files of a decay policy."""
