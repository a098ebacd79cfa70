"""The ledger of removal requests: what was asked, what was done about it, and what it came to.

A project is a folder with a ledger, a key to sign with and the versions of a model. Each version
answers some requests and has a parent; the newest is the *head*. Which requests are open follows
from the chain of versions from the first model to the head: going back to an earlier version opens
again what later ones answered.
"""
