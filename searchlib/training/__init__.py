"""Training: many networks of the same shape as one."""
