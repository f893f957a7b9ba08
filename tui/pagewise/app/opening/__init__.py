"""What is drawn where a model is opened: rows of the catalog, of the hub and of folders."""
