"""Images by class, as tasks hold them, and how a caller's tensors become such images."""
