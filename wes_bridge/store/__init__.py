"""Persistence: SQLAlchemy tables, Alembic migrations, queries. The only room that writes SQL.

Two databases live here: the *service*'s (runs and tasks) and a *node*'s (offer sets and sessions). It knows
the vocabulary of ``model`` and nothing of HTTP, CWL or processes.
"""
