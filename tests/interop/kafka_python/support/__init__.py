"""Lets the suite import itself as `test`: its source distribution leaves this file out."""
