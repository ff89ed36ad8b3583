"""What is optimised. One module an objective.

An objective is a ``torch.nn.Module`` (with whatever heads it trains) called with the local
features of a batch, ``[songs, crops, positions, dim]``, and a ``torch.Generator`` for anything it
draws; it returns the loss, a scalar. It sees features only: one forward pass of the encoder and
one backward is what a step costs.
"""
