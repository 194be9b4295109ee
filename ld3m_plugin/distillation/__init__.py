"""The distillation of one set: render, match, pull the gradient back, update the latents."""
