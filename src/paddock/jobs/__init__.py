"""Durable jobs: a job is a row in the database and, while it runs, a process of its own.

`states` is the state machine, `job` what one is, `store` what is asked of jobs, `report_store` what they say of themselves;
`worker` and `local` run them, `progress` is what a running job holds in its hand. What a job does is the business of the
slice that submits it.
"""
