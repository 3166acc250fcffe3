"""Pictures of records; nothing here runs a model."""
