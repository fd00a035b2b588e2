"""What nodes ask of each other: brokers of the active controller, which no broker is by right.

One link joins each pair of nodes (port `Mesh`); calls and answers travel on it as `ottla.v1.ControlFrame`s.
"""
