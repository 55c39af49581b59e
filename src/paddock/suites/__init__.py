"""Existing suites as benchmarks of a server: a task of lm-evaluation-harness (`lm_eval`) or a Llama Stack configuration with
open benchmarks (`open_benchmark`) is read into a `suite`, which is registered through the HTTP API.

Files are read here, and are a stranger's: nothing in them is executed, and what cannot be carried is said. Rows, jobs and
scores are the server's.
"""
