"""Whether a model has forgotten, tried as an opponent would: a battery of checks, and its verdict.

A check that succeeds on a model that never saw the images, too, proves nothing: each stands beside
such a model where there is one, else beside pictures that the model never saw.
"""
