"""What requests may look like: the engine of shapes, and the table of KMS's members."""
