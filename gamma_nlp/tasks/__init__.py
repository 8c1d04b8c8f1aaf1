"""The engines behind the recipes: whole fine-tuning and translation runs."""
