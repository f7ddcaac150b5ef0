"""Agents: what reads a stream and answers questions about it. One file a family; `all` names them."""
