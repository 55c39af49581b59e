"""Paddock: one self-hosted server where models are trained, judged and ranked.

The top level holds what every slice may use (`settings`, `errors`, `wire`, `routing`, `hub`) and what joins the slices
(`wiring`, `runners`). The slices bear the contract's names: `datasets`, `inference`, `evaluation`, `post_training`.
"""

__version__ = "0.1.0"
