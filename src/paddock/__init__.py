"""Paddock: one self-hosted server where models are trained, judged and ranked.

The package's top level holds what every slice may use (`settings`, `errors`, `wire`, `hub`) and what joins the slices
(`wiring`, `runners`). The slices bear the names of the contract: `datasets`, `inference`, `evaluation`, `post_training`.
"""

__version__ = "0.1.0"
