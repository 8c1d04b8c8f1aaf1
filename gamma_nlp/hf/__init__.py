"""Everything that speaks to Hugging Face's Trainer, hub and data loading."""
