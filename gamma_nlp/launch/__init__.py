"""What a launch file asks for, and what it means for a model and a policy."""
