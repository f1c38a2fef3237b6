"""FreeSeg-Diff, a file for each of its parts.

`method`: the steps in their order. `settings`: what can be turned. `regions`: clusters of a network's features. `naming`:
which class each cluster gets. `masks`: their edges, and the scores. `evaluation` and `about`: what is said of
it elsewhere.
"""
