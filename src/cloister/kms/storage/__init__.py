"""What lies on disk: root key, database, and the state that set-up makes."""
