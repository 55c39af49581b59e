"""Post-training: supervised fine-tuning and preference optimisation, as durable jobs that resume bit for bit.

A training row walks through one file each: `rows` (messages) → `tokens` (ids and labels) → `batches` → `recipes` →
`losses` → `optimizers` → `checkpoints`. `checks` and `job` stand before it, `loop` and `resume` around it.
"""
