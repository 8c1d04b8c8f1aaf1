"""Turns a gain table and a policy into parameter groups, a step hook and doses."""
