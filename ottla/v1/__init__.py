"""Generated from `proto/ottla/v1` by `make proto`; do not edit."""
