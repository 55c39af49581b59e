"""`paddock quickstart`: the whole loop on a small bundled model, through the HTTP API alone.

`dates` is the task, `base_model` the model (made by `make_base_model`), `plan` how it is trained, `walkthrough` the way.
"""
