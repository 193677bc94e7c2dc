"""The plateau and the escape from it."""
