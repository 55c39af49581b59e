"""Evaluation: a benchmark is a dataset and the scoring functions that judge a model's answers to its rows.

`schemas` is the contract, `benchmarks`, `functions` and `results` are the tables (`store` holds them together),
`registration` checks what users register. `plan` resolves a request, `prompts` reads rows, `evaluate` asks and scores,
`job` does so durably in a process of its own, `answer` shows what it found. `scoring/` has one file a function.
"""
