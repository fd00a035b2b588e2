"""Faults on the real processes of a throw-away cluster, while clients write down what they see.

`nemesis` is the interface and `catalog` the list of what can be done to a cluster from an installed package: processes
(`processes`), the network between nodes (`partitions`, on the namespaces of `network`), its doors (`doors`) and its
membership. `target` is the cluster that it is done to. Nothing here belongs to a node.
"""
