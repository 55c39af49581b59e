"""Datasets: rows that jobs read and clients page through, kept as the JSON text in which they came.

`rows` cuts and checks that text, `formats` and `parquet` read files into it, `sources` opens what a URI names, `bodies`
reads requests, `store` keeps it all, and `registration` puts the last three together. What a purpose needs of a row
stands in `purposes`; what a job does with a row is the business of the slice that runs the job.
"""
