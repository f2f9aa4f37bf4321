"""Worlds: small generators of biological data whose exact answers can be computed."""
