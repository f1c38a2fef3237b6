"""OVDiff, a file for each of its parts.

`method`: the steps in their order. `settings`: what can be turned. `support`: pictures of a class, and where it is in them.
`features`: what three networks make of a picture. `prototypes`: means of that over the class. `store`: what is kept of a
class on disk, in files that `word_folder` reads and writes. `prefilter`: which classes are compared. `matching`: pixels and
prototypes. `evidence`: what can be looked at. `cost`: what it takes to make prototypes. `random_prototypes`: what stands in
for them where time is measured. `evaluation` and `about`: what is said of it elsewhere.
"""
