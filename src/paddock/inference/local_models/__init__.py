"""What the engine process does: which requests go together (`queue`), where a model's files are (`model_files`), which
models are in memory (`loading`), and what they compute. Torch stands here and nowhere else in this slice.
"""
