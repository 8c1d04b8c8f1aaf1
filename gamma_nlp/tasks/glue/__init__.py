"""Fine-tuning on GLUE tasks."""
