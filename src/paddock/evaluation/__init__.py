"""Evaluation: a benchmark is a dataset and the scoring functions that judge a model's answers to its rows.

`schemas` is the contract; the stores are the tables (`store` holds them together), and `registration` checks what users
register. `plan` resolves a request, `prompts` reads rows, `evaluate` asks and scores, `submission` and `job` do so
durably in a process of its own, `answer` shows what was found out. `scoring/` has one file a function.
"""
