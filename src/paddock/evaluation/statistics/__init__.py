"""What a score is worth: pure functions of numbers, in plain Python, for the server carries no numerical library.

`distributions` are the quantiles and tails behind everything, `intervals` say how sure one figure is, `means` estimates
from rows that may come in clusters, `pairs` compares two models on the same rows, `multiplicity` mends the p-values of
several comparisons. Nothing here knows of jobs, rows or functions.
"""
