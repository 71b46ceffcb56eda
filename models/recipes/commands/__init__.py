"""How models/commands was made."""
