"""MM1.5 as a plain PyTorch module: the layout that the importer reads.

It is the independent reference of the parity tests and the trainer of `nano-ui`; the
library itself never imports it.
"""
